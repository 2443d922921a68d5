"""Directions of better values by a configuration alone: those of Keras."""

import inspect

import keras
import pytest

from trainer.common import schema
from trainer.components import keras_objects, metric_names
from trainer.config import directions, loading

_ARGUMENTS = {
    "fn": lambda target, prediction: target,
    "num_classes": 2,
    "precision": 0.5,
    "recall": 0.5,
    "sensitivity": 0.5,
    "specificity": 0.5,
    "target_class_ids": [0],
}


def _config(**metrics):
    return schema.as_dict(
        loading.resolve(
            {
                "losses": {"a": {"loss": "mse", **metrics}, "b": {"loss": "mse"}},
                "metrics": {"c": {"head": "a", "target": "a", "metrics": ["auc"]}},
                "model": {"heads": {name: [{"layer": "Dense", "units": 1}] for name in "ab"}},
                "dataset": {"name": "digits"},
                "best": {"metric": "{a/own} - 2 * {loss/b}", "mode": "max"},
                "early_stopping": {"metric": "a/twice", "mode": "min", "patience": 1},
            }
        )
    )


def test_every_metric_of_keras_has_its_direction():
    classes = [each for each in vars(keras.metrics).values() if inspect.isclass(each)]
    concrete = [each for each in classes if issubclass(each, keras.metrics.Metric) and each is not keras.metrics.Metric]
    assert len(concrete) > 40
    for found in concrete:
        parameters = inspect.signature(found).parameters
        metric = found(**{name: value for name, value in _ARGUMENTS.items() if name in parameters})
        known = directions.of(
            _config(metrics=[keras_objects.snake(found.__name__), {"name": found.__name__, "as": "x"}])
        )
        assert known[f"a/{keras_objects.snake(found.__name__)}"] == getattr(metric, "_direction", None), found
        assert known["a/x"] == getattr(metric, "_direction", None), found


@pytest.mark.parametrize("short", [*keras_objects._ALIASES, *metric_names.RESOLVED])
def test_short_names_have_the_direction_of_what_they_stand_for(short):
    long = keras_objects._ALIASES.get(short) or metric_names.RESOLVED[short][0]
    known = directions.of(_config(metrics=[short, {"name": long, "as": "long"}]))
    assert known[f"a/{short}"] == known["a/long"] is not None


def test_names_are_those_of_reports():
    own = {"name": "mine:metric", "as": "own"}
    known = directions.of(_config(metrics=["mae", own, "mine:twice"], weighted_metrics=["mae", "mse"]))
    assert known == {
        "loss/a": "down",
        "loss/b": "down",
        "a/mae": "down",
        "a/own": None,
        "a/twice": "down",  # by early_stopping
        "a/weighted_mae": "down",
        "a/mse": "down",
        "c/auc": "up",
    }


def test_values_of_other_splits_and_segments():
    known = directions.of(_config(metrics=["accuracy"]))
    for name in ("a/accuracy", "test/a/accuracy", "a/accuracy/worst", "segment/ward=3/a/accuracy", "c/auc/worst"):
        assert directions.of_value(name, known) == "up"
    assert directions.of_value("test/loss/b/worst", known) == "down"
    assert directions.of_value("monitor/total_loss", known) is None
