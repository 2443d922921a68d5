"""Predicted classes: the class by its name, and the probability or the score of each."""

from typing import Any

import numpy as np
import tensorflow as tf

from trainer.components.prediction_parts import PROBABILITY, SCORE, VALUE, Part, Parts, Target, in_shape_of

_NO_CLASS = -1
_NAMED_AXES = 2  # a class has a name where it is of an example or stands in a row, not of a pixel


def of_several(target: Target, prediction: tf.TensorSpec, *, are_logits: bool, are_probabilities: bool) -> Parts:
    """One class of several, which the last axis has a number for each of.

    Args:
      target: the loss's.
      prediction: what the loss reads, batch first.
      are_logits: whether a softmax makes probabilities of it.
      are_probabilities: whether it, or what the softmax makes, is probabilities, and not scores.
    """
    key = PROBABILITY if are_probabilities else SCORE
    count, names = prediction.shape[-1], _names(target, prediction.shape[-1])
    labels = _labels(target, count) if prediction.shape.rank - 1 <= _NAMED_AXES else None

    def compute(scores: tf.Tensor) -> dict[str, tf.Tensor]:
        chosen = _label(labels, tf.argmax(scores, -1, tf.int64))
        return {VALUE: chosen, key: tf.nn.softmax(scores) if are_logits else tf.identity(scores)}

    described = {
        VALUE: Part(f"class of target {target.name!r}{_form(labels)}", target.columns, names),
        key: Part(f"{key} of each class of target {target.name!r}", names, names),
    }
    return Parts(compute, described)


def of_label(target: Target, prediction: tf.TensorSpec, *, are_logits: bool, are_probabilities: bool) -> Parts:
    """Labels that are there or not: a single one, by the name of its class, or several, 1 and 0.

    Args:
      target: the loss's.
      prediction: what the loss reads, batch first.
      are_logits: whether a sigmoid makes probabilities of it.
      are_probabilities: whether it, or what the sigmoid makes, is probabilities of 1; else scores, above 0 for 1.
    """
    key, limit = (PROBABILITY, 0.5) if are_probabilities else (SCORE, 0.0)
    is_single = prediction.shape[1:] in ((), (1,))
    names = target.classes[0] if len(target.classes) == 1 and len(target.classes[0]) == 2 else ()
    labels = _labels(target, 2) if is_single else None

    def compute(given: tf.Tensor) -> dict[str, tf.Tensor]:
        found = in_shape_of(target, tf.sigmoid(given) if are_logits else tf.identity(given))
        return {VALUE: _label(labels, tf.cast(found > limit, tf.int64)), key: found}

    of_one = f"class {names[1]!r}" if names else "1"
    described = {
        VALUE: Part(f"class of target {target.name!r}{_form(labels)}", target.columns, names),
        key: Part(f"{key} of {of_one} of target {target.name!r}", target.columns),
    }
    return Parts(compute, described)


def of_scores(target: Target) -> Parts:
    """Scores of an order, of which nothing but the order means something."""
    part = Part(f"score by which target {target.name!r} is ordered, the larger the higher", target.columns)
    return Parts(lambda prediction: {SCORE: in_shape_of(target, tf.identity(prediction))}, {SCORE: part})


def _names(target: Target, count: int) -> tuple[str, ...]:
    """The names of `count` classes; none where they are not known or columns have classes of their own."""
    if len(target.classes) != 1:
        return ()
    return _of_length(target.classes[0], count)


def _of_length(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """As many names as the head has classes; those beyond the target's are counted."""
    return (*names[:count], *(f"class {place}" for place in range(len(names), count)))


def _labels(target: Target, count: int) -> np.ndarray | None:
    """(columns, count) or (1, count), the label of each class: text, or whole numbers; None: classes are numbers."""
    own = target.inverse.labels
    if own is not None and isinstance(own[0], int):
        return np.array([[*own[:count], *[_NO_CLASS] * (count - len(own))]], np.int64)
    if not target.classes:
        return None
    return np.array([_of_length(names, count) for names in target.classes], object)


def _label(labels: np.ndarray | None, classes: tf.Tensor) -> tf.Tensor:
    """The label of each class, of the last axis's columns each by its own names."""
    if labels is None:
        return classes
    columns, count = labels.shape
    places = classes if columns == 1 else classes + tf.range(columns, dtype=tf.int64) * count
    return tf.gather(_constant(labels), places)


def _constant(labels: np.ndarray) -> tf.Tensor:
    flat: Any = labels.reshape(-1)
    return tf.constant(flat.tolist(), tf.string if flat.dtype == object else tf.int64)


def _form(labels: np.ndarray | None) -> str:
    if labels is None:
        return ", by its number"
    return ", by its name" if labels.dtype == object else ", as the source has it"
