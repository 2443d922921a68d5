"""Counts of the classes in a target, over its labelled examples: what balanced weights of classes are made of."""

import dataclasses

import numpy as np

from input_pipelines.feed.splits import Split, WrongClassError
from trainer.common.errors import ConfigError

INDICES, ONE_HOT, BINARY = "indices", "one_hot", "binary"


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


def count(split: Split, target: str, classes: Classes) -> list[list[int]]:
    """Returns how many labels each class has: for each of `classes.labels`, a number for each class.

    A label whose weight is 0 counts for nothing. It takes one pass over the split, before augmentation.

    Raises:
      WrongClassError: the target holds something else than these classes.
    """
    counts = np.zeros((classes.labels, classes.count), np.int64)
    for values, weights in split.labels(target):
        indices = _indices(values, classes)
        present = _present(indices, weights, target)
        if classes.ignored is not None:
            present = present & (indices != classes.ignored)
        _check(values, indices, present, target, classes)
        columns = zip(*(each.reshape(-1, classes.labels).T for each in (indices, present)), strict=True)
        for label, (column, there) in enumerate(columns):
            counts[label] += np.bincount(column[there], minlength=classes.count)
    return counts.tolist()


def _indices(values: np.ndarray, classes: Classes) -> np.ndarray:
    """The class of each value of the loss, of each label where there are several."""
    values = values[..., 0] if classes.has_axis else values
    if classes.form == ONE_HOT:
        return np.argmax(values, axis=-1)
    return (values > 0.5).astype(np.int64) if classes.form == BINARY else np.round(values).astype(np.int64)


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


def _check(values: np.ndarray, indices: np.ndarray, present: np.ndarray, target: str, classes: Classes) -> None:
    if classes.form == ONE_HOT:
        return
    values = values[..., 0] if classes.has_axis else values
    exact = indices == values if classes.form == INDICES else np.isin(values, (0, 1))
    wrong = present & ~(exact & (indices >= 0) & (indices < classes.count))
    if wrong.any():
        raise WrongClassError(target, values[wrong][0].item(), f"0 to {classes.count - 1}")
