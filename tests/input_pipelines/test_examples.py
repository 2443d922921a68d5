"""Arrays that a dataset may give, and errors for those that it may not."""

import sys

import numpy as np
import pytest

from input_pipelines import examples
from input_pipelines.configuration import SourceConfig
from input_pipelines.examples import Examples
from trainer.common import schema
from trainer.common.errors import ConfigError

WEIGHTS = {
    "good": [1.0, 0.0, 2.0],
    "negative": [1.0, -1.0, 0.0],
    "infinite": [1.0, np.inf, 1.0],
    "nan": [np.nan, 1.0, 1.0],
    "zero": [0.0] * 3,
}


def source(
    weights: str = "good", target: str = "t", length: int = 3, splits: tuple[str, ...] = ("train", "validation")
):
    split = Examples(np.zeros((3, 2)), {"t": np.zeros(length)}, {target: np.array(WEIGHTS[weights])})
    return dict.fromkeys(splits, split)


def empty():
    return dict.fromkeys(("train", "validation"), Examples(np.zeros((0, 2)), {"t": np.zeros(0)}))


def alike(shape=(), dtype="float32"):
    other = Examples(np.zeros((3, 2)), {"t": np.zeros((3, *shape), dtype)})
    return {"train": Examples(np.zeros((3, 2)), {"t": np.zeros(3, "float32")}, None), "validation": other}


def odd(part: str, value=None):
    parts = {"inputs": np.zeros((3, 2)), "targets": {"t": np.zeros(3)}, "weights": None} | {part: value}
    return dict.fromkeys(("train", "validation"), Examples(**parts))


def raises():
    raise RuntimeError("no luck")


def exits():
    sys.exit(3)


def with_nan():
    target = np.array([[np.nan, 1.0], [2.0, np.nan], [5.0, np.inf]])
    weights = {"t": np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])}
    return dict.fromkeys(("train", "validation"), Examples(np.zeros((3, 2)), {"t": target}, weights))


def _load(name: str = "source", data_dir: str | None = None, **options):
    path = f"tests.input_pipelines.test_examples:{name}"
    return examples.load(_config(name=path, data_dir=data_dir, options=options), floatx="float32")


def _config(**settings):
    return schema.record(SourceConfig)(settings, "dataset")


def test_floats_take_the_precision_of_the_run():
    train = _load()["train"]
    assert train.inputs.dtype == train.targets["t"].dtype == train.weights["t"].dtype == np.float32


def test_what_a_missing_target_holds_does_not_matter():
    np.testing.assert_array_equal(_load("with_nan")["train"].targets["t"], [[0, 1], [2, 0], [5, 0]])


def test_no_weights_may_be_none():
    assert _load("alike")["train"].weights == {}


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"weights": "negative"}, "dataset.train.weights.t", "(example 1) weights must be finite and at least 0"),
        ({"weights": "infinite"}, "dataset.train.weights.t", "(example 1)"),
        ({"weights": "nan"}, "dataset.train.weights.t", "(example 0)"),
        ({"weights": "zero"}, "dataset.train.weights.t", "all weights are 0"),
        ({"target": "other"}, "dataset.train.weights.other", "no target of that name"),
        ({"length": 2}, "dataset.train.targets.t", "one entry for each of the 3 examples"),
        ({"splits": ["train"]}, "dataset.name", "'validation'"),
        ({"lenght": 2}, "dataset.options.lenght", "did you mean 'length'"),
        ({"data_dir": "x"}, "dataset.options.data_dir", "unknown argument"),
        ({"name": "empty"}, "dataset.train", "no example"),
        ({"name": "alike", "shape": [2]}, "dataset.validation.targets.t", "as in the training split, float32[]"),
        ({"name": "alike", "dtype": "int64"}, "dataset.validation.targets.t", "as in the training split"),
        ({"name": "odd", "part": "targets"}, "dataset.train.targets", "dictionary"),
        ({"name": "odd", "part": "targets", "value": {}}, "dataset.train.targets", "at least one"),
        ({"name": "odd", "part": "targets", "value": {"t": ["a", "b", "c"]}}, "dataset.train.targets.t", "numbers"),
        ({"name": "odd", "part": "inputs"}, "dataset.train.inputs", "array of numbers"),
        ({"name": "odd", "part": "inputs", "value": {}}, "dataset.train.inputs", "at least one"),
        ({"name": "odd", "part": "inputs", "value": [[1], [2, 3]]}, "dataset.train.inputs", "not an array"),
        ({"name": "odd", "part": "weights", "value": {"t": 1.0}}, "dataset.train.weights.t", "one entry per example"),
        (
            {"name": "odd", "part": "inputs", "value": np.zeros((3, 0))},
            "dataset.train.inputs",
            "[3, 0]': has a dimension",
        ),
        (
            {"name": "odd", "part": "inputs", "value": {"a": np.zeros((3, 2, 0, 1))}},
            "dataset.train.inputs.a",
            "of 0, so",
        ),
        (
            {"name": "odd", "part": "targets", "value": {"t": np.zeros((3, 0))}},
            "dataset.train.targets.t",
            "holds nothing",
        ),
        ({"name": "odd", "part": "inputs", "value": {"": np.zeros(3)}}, "dataset.train.inputs", "is not empty"),
        ({"name": "odd", "part": "targets", "value": {"\udcff": np.zeros(3)}}, "dataset.train.targets", "UTF-8 has"),
        ({"name": "raises"}, "dataset.name", "RuntimeError: no luck ("),
        ({"name": "exits"}, "dataset.name", "SystemExit: 3"),
        ({"name": "nothing_here"}, "dataset.name", "has no 'nothing_here'"),
    ],
)
def test_what_is_wrong_is_named(options, field, words):
    with pytest.raises(ConfigError) as caught:
        _load(**options)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_a_module_that_does_not_import_is_named():
    with pytest.raises(
        ConfigError, match="dataset.name='no_such_module:load': cannot import 'no_such_module': ModuleNotFoundError"
    ):
        examples.load(_config(name="no_such_module:load"), floatx="float32")
