"""Operations that a configuration gets wrong, or that do not fit their feature, are named."""

import numpy as np
import pytest

from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation import preparation
from input_pipelines.sources.source import Arrays
from tests.input_pipelines.operands import NUMBERS, PICTURES, WORDS, apply, name
from trainer.common import schema
from trainer.common.errors import ConfigError

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("standardize", ["prepare.0.name", "'standardize'", "standardise"]),
        ({"name": "scale", "factor": 2}, ["prepare.0", "factor", "by"]),
        ({"name": "clip", "low": 3, "high": 1}, ["prepare.0.low", "3", "'high', 1"]),
        ({"name": "clip", "low": "a", "high": 1}, ["prepare.0.low", "'a'", "finite number"]),
        ({"name": "bins"}, ["prepare.0", "'count' or 'edges'"]),
        ({"name": "bins", "count": 3, "edges": [1.0]}, ["prepare.0", "'count' or 'edges'"]),
        ({"name": "bins", "count": 1}, ["prepare.0.count", "1"]),
        ({"name": "bins", "edges": [2.0, 1.0]}, ["prepare.0.edges", "[2.0, 1.0]"]),
        ({"name": "bins", "edges": [1.0, 1.0]}, ["prepare.0.edges", "[1.0, 1.0]"]),
        ({"name": "threshold"}, ["prepare.0.above", "missing"]),
        ({"name": "groups", "of": []}, ["prepare.0.of", "[]"]),
        ({"name": "groups", "of": [0, -1]}, ["prepare.0.of.1", "-1"]),
        ({"name": "classes", "names": ["1", 1]}, ["prepare.0.names", "two classes"]),
        ({"name": "categories", "minimum": 0}, ["prepare.0.minimum", "0"]),
        ({"name": "one_hot", "classes": 0}, ["prepare.0.classes", "0"]),
        ({"name": "resize", "height": 4, "width": 4, "method": "linear"}, ["prepare.0.method", "bilinear"]),
        ({"name": "reshape", "shape": [0, 4]}, ["prepare.0.shape", "[0, 4]"]),
        ({"name": "reshape", "shape": [-1, -1]}, ["prepare.0.shape", "[-1, -1]"]),
        ("tests.input_pipelines.test_operations:triple", ["prepare.0.name", "triple"]),
        ({"name": "tests.input_pipelines.test_operations:double", "by": 3}, ["prepare.0", "by"]),
    ],
    ids=name,
)
def test_mistakes_in_a_configuration_are_named(spec, expected):
    with pytest.raises(ConfigError) as caught:
        apply(spec, NUMBERS)
    line = str(caught.value)
    assert "\n" not in line
    for part in expected:
        assert part in line


@pytest.mark.parametrize(
    ("spec", "values", "expected"),
    [
        ("standardise", WORDS, "text"),
        ("scale", WORDS, "text"),
        ({"name": "bins", "count": 2}, WORDS, "text"),
        ("categories", NUMBERS, "fractions"),
        ("classes", NUMBERS[:, 0], "fractions"),
        ({"name": "equals", "values": ["a"]}, np.arange(3), "a"),
        ({"name": "equals", "values": []}, np.arange(3), ""),
        ({"name": "groups", "of": [0, 1]}, NUMBERS[:, 0], "whole numbers"),
        ({"name": "one_hot", "classes": 2}, NUMBERS[:, 0], ""),
        ({"name": "resize", "height": 4, "width": 4}, np.zeros((5, 8, 8)), "channels"),
        ({"name": "central_crop", "height": 4, "width": 4}, np.zeros((5, 8, 8)), "channels"),
        ({"name": "central_crop", "height": 9, "width": 4}, PICTURES, ""),
        ("grayscale", np.zeros((5, 8, 8)), "channels"),
        ("grayscale", PICTURES[..., :2], ""),
        ({"name": "reshape", "shape": [3, -1]}, NUMBERS, ""),
    ],
    ids=name,
)
def test_features_that_an_operation_does_not_fit_are_named(spec, values, expected):
    tree = {
        "name": "csv",
        "path": "x",
        "inputs": {"x": {"feature": "values", "prepare": [spec]}},
        "targets": {"y": {}},
    }
    train = Arrays({"values": values, "y": np.zeros(len(values))}, str)
    with pytest.raises(ConfigError) as caught:
        preparation.build({"dataset": (schema.record(SourceConfig)(tree, "dataset"), train)})["dataset"].spec(train)
    line = str(caught.value)
    assert "\n" not in line
    assert "dataset.inputs.x.prepare.0" in line
    assert "values" in line
    assert expected in line
