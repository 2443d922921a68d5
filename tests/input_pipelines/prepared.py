"""Preparations of columns that a test makes, without a file."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation import preparation
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.sources.source import Arrays
from trainer.common import schema


def of_columns(columns: Mapping[str, np.ndarray], targets: Mapping[str, Any]) -> tuple[Preparation, Arrays]:
    """The preparation of these targets, and the split whose columns it has learned from; `x` is the input."""
    count = len(next(iter(columns.values())))
    source = Arrays({"x": np.zeros(count), **columns}, str)
    tree = {"name": "csv", "path": "none.csv", "inputs": {"x": {}}, "targets": targets}
    config = schema.record(SourceConfig)(tree, "dataset")
    return preparation.build({"dataset": (config, source)})["dataset"], source
