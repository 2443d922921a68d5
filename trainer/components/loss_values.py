"""Shapes of what a loss returns: advice where it is not one value per example, and a check where it is not known."""

from typing import Any

import tensorflow as tf

_UNKNOWN_SHAPES = ("unknown TensorShape", "unknown rank", "rank is not statically known", "Unknown shape")


def one_per_example(values: tf.Tensor, prediction: tf.Tensor, where: str) -> tf.Tensor:
    """Returns `values` of unknown shape, as of `tf.py_function`, as (examples,); another shape is an error in the step.

    Args:
      values: what a loss returned.
      prediction: what it was given, batch first.
      where: the loss, for the error.
    """
    examples = tf.shape(prediction)[0]
    size, rank = tf.size(values), tf.rank(values)
    is_right = tf.logical_and(tf.equal(rank, 1), tf.equal(size, examples))
    reason = [f"{where}: must return one value per example; it returns", size, "values along", rank, "axes for"]
    with tf.control_dependencies([tf.debugging.Assert(is_right, [*reason, examples, "examples"])]):
        values = tf.identity(values)
    values.set_shape(prediction.shape[:1])
    return values


def of_mean(values: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """`values`; where they are not one for each example, their mean for each, as Keras' `fit` takes them.

    Args:
      values: what a loss returned; (examples, ...), or of any shape that cannot be that.
      prediction: what it was given, batch first.
    """
    if values.shape.rank is None or values.shape.rank > 0 and values.shape[0] in (None, prediction.shape[0]):
        return values
    return tf.fill(tf.shape(prediction)[:1], tf.reduce_mean(values))


def why_no_scalar(function: Any, field: str, prediction: tf.Tensor) -> str:
    """The reason why a loss is refused that returns a scalar for `prediction`; `field` is its key."""
    advice = axes(function, field, prediction) or " (do not average over the batch)"
    return f"returns a scalar; it must return one value per example{advice}"


def axes(function: Any, field: str, prediction: tf.Tensor) -> str:
    """Advice on the argument `axis` of a loss of Keras; nothing where it has none."""
    if not hasattr(function, "axis"):
        return ""
    return f": set {field}.axis={list(range(1, max(prediction.shape.rank, 2)))}, all axes but that of the examples"


def advice(error: BaseException) -> str:
    """Advice on an error that a model or a loss raised while it was traced; nothing where there is none."""
    text = str(error)
    if "numpy" in text.lower():
        return "a loss must use TensorFlow or Keras operations (tf.argmax, tf.gather) instead of NumPy: "
    if any(words in text for words in _UNKNOWN_SHAPES):
        return "a tensor has no known shape, as after tf.py_function; give it one by tf.ensure_shape: "
    return ""
