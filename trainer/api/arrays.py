"""Splits that are given as arrays, frames of pandas or datasets of `tf.data`: they become `Examples`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import DatasetConfig
from input_pipelines.examples import Examples
from trainer.common.errors import ConfigError

_SETTINGS = {field.name for field in dataclasses.fields(DatasetConfig)}


def of_splits(dataset: Mapping[str, Any]) -> tuple[dict[str, Any], Callable[[], dict[str, Examples]]]:
    """The settings among a `dataset`, and a function that gives its splits and reads each of them once.

    Args:
      dataset: split → examples, and settings of a dataset by their names. Examples are `Examples`, a tuple `(inputs,
        targets)` or `(inputs, targets, weights)`, or a `tf.data.Dataset` of batches of such tuples. Inputs are an
        array, a frame of numbers or a dictionary of arrays; targets and weights dictionaries of arrays, targets also a
        frame or a series, by the names of the columns.
    """
    splits = {name: value for name, value in dataset.items() if name not in _SETTINGS}

    @functools.cache
    def load() -> dict[str, Examples]:
        return {name: _examples(value, f"dataset.{name}") for name, value in splits.items()}

    return {name: value for name, value in dataset.items() if name in _SETTINGS}, load


def _examples(value: Any, field: str) -> Examples:
    if isinstance(value, Examples):
        return value
    if isinstance(value, tf.data.Dataset):
        value = _read(value, field)
    if not isinstance(value, tuple | list) or len(value) not in (2, 3):
        allowed = "Examples, (inputs, targets), (inputs, targets, weights) or a tf.data.Dataset of batches of these"
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


def _read(dataset: tf.data.Dataset, field: str) -> Any:
    """All batches of a dataset as one, in the order in which it gives them."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        reason = "never ends, and a run reads all of it before its first step; leave out repeat()"
        raise ConfigError(field, type(dataset).__name__, reason)
    batches = list(dataset.as_numpy_iterator())
    if not batches:
        raise ConfigError(field, type(dataset).__name__, "gives no batch")
    try:
        return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)
    except ValueError as error:  # single examples, or batches of different shapes
        reason = "must give batches of examples that are alike, as after batch()"
        raise ConfigError(field, type(dataset).__name__, reason) from error
