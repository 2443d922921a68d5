"""Splits that are given as arrays, frames of pandas or datasets of `tf.data`, in the form that a dataset gives them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import TRAIN, DatasetConfig
from input_pipelines.examples import Examples, Ordered
from input_pipelines.feed import in_order
from trainer.common.errors import ConfigError

_SETTINGS = {field.name for field in dataclasses.fields(DatasetConfig)}


def of_splits(dataset: Mapping[str, Any]) -> tuple[dict[str, Any], Callable[[], dict[str, Examples | Ordered]]]:
    """The settings among a `dataset`, and a function that gives its splits and reads each of them once.

    Of a dataset of `tf.data` to train on it reads the first examples, and all of them only to count them.

    Args:
      dataset: split → examples, and settings of a dataset by their names. Examples are `Examples`, a tuple `(inputs,
        targets)` or `(inputs, targets, weights)`, or a `tf.data.Dataset` of such tuples. Inputs are an array, a frame
        of numbers or a dictionary of arrays; targets and weights dictionaries of arrays, targets also a frame or a
        series, by the names of the columns.
    """
    splits = {name: value for name, value in dataset.items() if name not in _SETTINGS}

    @functools.cache
    def load() -> dict[str, Examples | Ordered]:
        return {name: _examples(value, f"dataset.{name}", is_train=name == TRAIN) for name, value in splits.items()}

    return {name: value for name, value in dataset.items() if name in _SETTINGS}, load


def _examples(value: Any, field: str, *, is_train: bool) -> Examples | Ordered:
    if isinstance(value, Examples):
        return value
    if isinstance(value, tf.data.Dataset):
        dataset = _structured(value, field)
        return in_order.read(dataset, field) if is_train else in_order.whole(dataset, field)
    if not isinstance(value, tuple | list) or len(value) not in (2, 3):
        allowed = "Examples, (inputs, targets), (inputs, targets, weights) or a tf.data.Dataset of these"
        raise ConfigError(field, type(value).__name__, f"must be {allowed}")
    inputs, targets, weights = (*value, {})[:3]
    return Examples(_inputs(inputs), _named(targets, f"{field}.targets"), _named(weights or {}, f"{field}.weights"))


def _inputs(inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return {name: np.asarray(array) for name, array in inputs.items()}
    return np.asarray(inputs)  # of a frame, its columns side by side


def _named(arrays: Any, field: str) -> dict[str, np.ndarray]:
    if isinstance(arrays, Mapping):
        return {name: np.asarray(array) for name, array in arrays.items()}
    if hasattr(arrays, "columns"):
        return {name: arrays[name].to_numpy() for name in arrays.columns}
    if hasattr(arrays, "to_numpy") and isinstance(getattr(arrays, "name", None), str):
        return {arrays.name: arrays.to_numpy()}
    raise ConfigError(
        field, type(arrays).__name__, "must be a dictionary of arrays by their names, or a frame of pandas"
    )


def _structured(dataset: tf.data.Dataset, field: str) -> tf.data.Dataset:
    """The dataset with elements of the form of `Examples.structure`.

    Raises:
      ConfigError: they are no tuples of inputs, targets by their names and perhaps weights.
    """
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ConfigError(field, "tf.data.Dataset", "must give tuples (inputs, targets) or (inputs, targets, weights)")
    parts = ("inputs", "targets", "weights")[: len(spec)]
    for part, own in zip(parts[1:], spec[1:], strict=True):
        if not isinstance(own, Mapping):
            raise ConfigError(f"{field}.{part}", "tf.data.Dataset", "must be a dictionary of tensors by their names")
    return dataset.map(lambda *element: dict(zip(parts, element, strict=True)))
