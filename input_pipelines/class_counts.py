"""Counts of the classes in a target, over its labelled examples: what balanced weights of classes are made of."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from input_pipelines.feed.splits import Split
from trainer.common.errors import ConfigError

INDICES, ONE_HOT, BINARY = "indices", "one_hot", "binary"
Counts = list[list[int]]


@dataclasses.dataclass(frozen=True)
class Classes:
    """The form in which a target holds classes.

    Attributes:
      form: `INDICES`, a whole number for each value of the loss; `ONE_HOT`, the class is where the last axis is
        largest; `BINARY`, a zero or a one for each of `labels`.
      count: how many classes there are, 2 of `BINARY`.
      labels: how many labels stand on the last axis, each with two classes of its own; 1 of other forms.
      has_axis: whether the target has a last axis of one number that the loss's values do not have.
      ignored: the index that means no label.
    """

    form: str
    count: int
    labels: int = 1
    has_axis: bool = False
    ignored: int | None = None


class NoClassError(ConfigError):
    """A target holds a number that is none of its classes; `field` is the name of the counts."""


def count(split: Split, wanted: Mapping[str, tuple[str, Classes]]) -> dict[str, Counts]:
    """Counts the labels of each class in one pass over a split, before augmentation; those of weight 0 do not count.

    Args:
      split: the split.
      wanted: a name of the caller's → a target and its classes.

    Returns:
      The name → for each of `classes.labels`, a number for each class.

    Raises:
      NoClassError: a target holds something else than its classes.
    """
    counts = {name: np.zeros((classes.labels, classes.count), np.int64) for name, (_, classes) in wanted.items()}
    if not wanted:
        return {}
    for labels in split.labels(list(dict.fromkeys(target for target, _ in wanted.values()))):
        for name, (target, classes) in wanted.items():
            if target in labels:
                _add(counts[name], *labels[target], classes, name, target)
    return {name: each.tolist() for name, each in counts.items()}


def _add(
    counts: np.ndarray, values: np.ndarray, weights: np.ndarray | None, classes: Classes, name: str, target: str
) -> None:
    """Adds some examples to (labels, classes) counts, in place."""
    values = values[..., 0] if classes.has_axis else values
    indices = _indices(values, classes)
    present = _present(indices, weights, target)
    if classes.ignored is not None:
        present = present & (indices != classes.ignored)
    wrong = present & ~_are_classes(values, indices, classes)
    if wrong.any():
        raise NoClassError(name, values[wrong][0].item(), f"0 to {classes.count - 1}")
    columns = zip(*(each.reshape(-1, classes.labels).T for each in (indices, present)), strict=True)
    for label, (column, there) in enumerate(columns):
        counts[label] += np.bincount(column[there], minlength=classes.count)


def _indices(values: np.ndarray, classes: Classes) -> np.ndarray:
    """The class of each value of the loss, of each label where there are several."""
    if classes.form == ONE_HOT:
        return np.argmax(values, axis=-1)
    if classes.form == BINARY:
        return (values > 0.5).astype(np.int64)
    return (np.round(values) if np.issubdtype(values.dtype, np.floating) else values).astype(np.int64)


def _present(indices: np.ndarray, weights: np.ndarray | None, target: str) -> np.ndarray:
    """True where a label has a weight above 0; weights fit from the left."""
    if weights is None:
        return np.ones(indices.shape, bool)
    shape = weights.shape
    while weights.ndim > indices.ndim and weights.shape[-1] == 1:
        weights = weights[..., 0]
    try:
        weights = weights.reshape(weights.shape + (1,) * (indices.ndim - weights.ndim))
        return np.broadcast_to(weights > 0, indices.shape)
    except ValueError as error:
        raise ConfigError(
            f"dataset.weights.{target}", list(shape[1:]), f"do not broadcast to labels of shape {indices.shape[1:]}"
        ) from error


def _are_classes(values: np.ndarray, indices: np.ndarray, classes: Classes) -> np.ndarray:
    """True where a value is one of the classes."""
    if classes.form == ONE_HOT:
        return np.ones(indices.shape, bool)
    is_exact = indices == values if classes.form == INDICES else np.isin(values, (0, 1))
    return is_exact & (indices >= 0) & (indices < classes.count)
