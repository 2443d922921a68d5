"""Pictures of a split as they are stored: encoded."""

import os

import numpy as np
import tensorflow as tf

from input_pipelines.sources.image_folder import Folder
from input_pipelines.sources.pictured_rows import TableOfImages
from input_pipelines.sources.source import Source


def first(source: Source, feature: str, count: int) -> np.ndarray | None:
    """(count,) bytes objects, the pictures of the first examples of a split; None where it stores none."""
    if isinstance(source, Folder):
        return _read([os.path.join(source.root, file) for file in source.files[:count]])
    if isinstance(source, TableOfImages):
        return _read(source.stored[feature].paths[:count].tolist())
    if source.records is None:
        return None
    parsed = {feature: tf.io.FixedLenFeature([], tf.string)}
    records = source.records.in_order().take(count)
    return _objects([tf.io.parse_single_example(each, parsed)[feature].numpy() for each in records])


def _read(paths: list[str | bytes]) -> np.ndarray:
    return _objects([tf.io.read_file(path).numpy() for path in paths])


def _objects(values: list[bytes]) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found
