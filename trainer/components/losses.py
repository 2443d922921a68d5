"""Named per-example losses: a head, a target, a function, and the sums that make a global mean of them.

A loss is never reduced to a scalar before its sums over all replicas exist: with per-example values ℓ and weights w the
loss of a global batch is Σ w·ℓ / Σ w (`normalizer: weights`) or Σ w·ℓ / N as Keras does (`normalizer: examples`, N the
number of values), and both sums are taken over all replicas first.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trainer.common import import_paths
from trainer.common.errors import ConfigError, first_line
from trainer.components import loss_functions
from trainer.components.loss_functions import Loss
from trainer.config.settings import GLOBAL_BATCH, LossConfig


@dataclasses.dataclass(frozen=True)
class NamedLoss:
    """One loss of the configuration, ready to compute.

    Attributes:
      name: its name in the configuration and in every report.
      head: name of the model's output it reads.
      slice: start and stop of what it reads of that output's last axis; None for all of it.
      target: name of the target it compares with.
      function: `function(target, prediction)` → one value per example, shape (examples, ...).
      every: it takes part in one of `every` steps.
      offset: the first step in which it takes part, counted from 0.
      variables: patterns of the paths of the only variables it updates; None: all that it reaches.
      normalizer: "weights" or "examples".
      targets_are_classes: whether the target holds class indices; None where its shape is the function's own affair.
      pointwise: whether it is a mean over the last axis, so that every number of a target can have a weight.
      takes_probabilities: whether it could take logits but is not set to, so that predictions must lie in [0, 1].
      over: the examples that its function sees together, as in the configuration; None: each is on its own.
      may_compare: whether the value of an example may depend on other examples, as far as its name says.
    """

    name: str
    head: str
    slice: tuple[int, int] | None
    target: str
    function: Loss
    every: int
    offset: int
    variables: tuple[str, ...] | None
    normalizer: str
    targets_are_classes: bool | None
    pointwise: bool
    takes_probabilities: bool
    over: str | None
    may_compare: bool

    @property
    def source(self) -> str:
        """The head and the slice that it reads, in words."""
        return f"head {self.head!r}" + ("" if self.slice is None else f" from {self.slice[0]} to {self.slice[1]}")

    @property
    def function_name(self) -> str:
        """The name of its function."""
        return loss_functions.name_of(self.function)

    def prediction(self, outputs: Mapping[str, Any]) -> Any:
        """Returns the head or slice that it reads of the model's outputs (tensors, or symbolic ones of Keras)."""
        output = outputs[self.head]
        return output if self.slice is None else output[..., self.slice[0] : self.slice[1]]

    def takes_part(self, step: tf.Tensor) -> tf.Tensor:
        """Returns a scalar bool, True where the loss is due in a step (counted from 0)."""
        return tf.equal((step - self.offset) % self.every, 0)


class LossSums(NamedTuple):
    """One replica's sums of one loss; each a scalar of the loss's dtype.

    Attributes:
      loss_sum: Σ w·ℓ.
      weight_sum: Σ w (the number of values where there are no weights).
      values_per_example: number of values per example.
    """

    loss_sum: tf.Tensor
    weight_sum: tf.Tensor
    values_per_example: tf.Tensor


def build(name: str, config: LossConfig) -> NamedLoss:
    """Resolves a loss of the configuration; raises ConfigError where its function or an argument does not exist."""
    resolved = loss_functions.build(config.loss, f"losses.{name}.loss")
    return NamedLoss(
        name=name,
        head=config.head,
        slice=config.slice,
        target=config.target,
        function=resolved.function,
        every=config.every,
        offset=config.offset,
        variables=None if config.variables is None else tuple(config.variables),
        normalizer=config.normalizer,
        targets_are_classes=resolved.targets_are_classes,
        pointwise=resolved.pointwise,
        takes_probabilities=resolved.takes_probabilities,
        over=config.over,
        may_compare=resolved.may_compare,
    )


def full_precision(outputs: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    """A model's outputs with half-precision ones (`precision: mixed_...`) cast to float32, as losses need them."""
    return {
        head: tf.cast(output, tf.float32) if output.dtype in (tf.float16, tf.bfloat16) else output
        for head, output in outputs.items()
    }


def sums(
    loss: NamedLoss,
    outputs: Mapping[str, tf.Tensor],
    batch: Mapping[str, Mapping[str, tf.Tensor]],
    part: tf.Tensor | None = None,
) -> LossSums:
    """Σ w·ℓ and Σ w of one loss over a replica's part of the batch.

    Args:
      loss: the loss.
      outputs: head name → predictions, batch first.
      batch: `targets` and, where labels are missing or weighted, `weights`, each by target name. Weights broadcast to
        the loss's values: (examples,) or any shape that fits them from the left; for a mean over the last axis (squared
        error, say) also one for every number of the target.
      part: (examples,), 1 for examples that count and 0 for others; None: all count. Of a loss over the global batch
        the gradient is that of the sum over all examples all the same (see `comparisons.py`).

    Raises:
      ConfigError: the function returns a scalar, or weights that do not broadcast to its values.
    """
    prediction, target = loss.prediction(outputs), batch["targets"][loss.target]
    weights = batch.get("weights", {}).get(loss.target)
    if loss.pointwise and weights is not None and weighs_every_number(weights, target, prediction):
        prediction, target = prediction[..., tf.newaxis], target[..., tf.newaxis]
    values = _values(loss, prediction, target)
    values_per_example = tf.cast(tf.reduce_prod(tf.shape(values)[1:]), values.dtype)
    if weights is None and part is None:
        return LossSums(tf.reduce_sum(values), tf.cast(tf.size(values), values.dtype), values_per_example)
    weights = tf.ones_like(values) if weights is None else _broadcast(tf.cast(weights, values.dtype), values, loss)
    counted = weights if part is None else weights * _broadcast(tf.cast(part, values.dtype), values, loss)
    loss_sum = tf.reduce_sum(counted * values)
    if part is not None and loss.over == GLOBAL_BATCH:
        loss_sum = _with_gradient_of(tf.reduce_sum(weights * values), loss_sum)
    return LossSums(loss_sum, tf.reduce_sum(counted), values_per_example)


def weighs_every_number(weights: Any, target: Any, prediction: Any) -> bool:
    """True where weights are of every number of a target, not of examples, rows or pixels."""
    shape = tuple(weights.shape[1:])
    return len(shape) > 0 and shape[-1] != 1 and shape == tuple(target.shape[1:]) == tuple(prediction.shape[1:])


def _values(loss: NamedLoss, prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    field = f"losses.{loss.name}.loss"
    try:
        values = tf.convert_to_tensor(loss.function(target, prediction))
    except ConfigError:
        raise
    except import_paths.USER_ERRORS as error:
        raise ConfigError(
            field,
            loss.function_name,
            f"fails on a target of shape {target.shape} and a prediction of shape {prediction.shape}: "
            f"{_advice(error)}{type(error).__name__}: {first_line(error)}",
        ) from error
    if values.shape.rank == 0:
        raise ConfigError(
            field,
            loss.function_name,
            "returns a scalar; it must return one value per example (do not average over the batch)",
        )
    if not values.dtype.is_floating:
        raise ConfigError(
            field,
            loss.function_name,
            f"returns {values.dtype.name}; it must return floating-point values",
        )
    # Values beyond the examples belong to the prediction's own axes; anything else is a broadcast that was not meant.
    given, expected = values.shape.as_list(), prediction.shape.as_list()[: values.shape.rank]
    if len(given) > prediction.shape.rank or any(g not in (e, None) for g, e in zip(given, expected, strict=True) if e):
        raise ConfigError(
            field,
            loss.function_name,
            f"returns shape {tuple(given)} for a target of shape {target.shape} and a prediction of shape "
            f"{prediction.shape}; it must return one value per example",
        )
    return tf.cast(values, keras.config.floatx())


@tf.custom_gradient
def _with_gradient_of(objective: tf.Tensor, value: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """`value`, with the gradient of `objective`."""
    return tf.identity(value), lambda upstream: (upstream, None)


def _advice(error: BaseException) -> str:
    if "numpy" in str(error).lower():
        return "a loss must use TensorFlow or Keras operations (tf.argmax, tf.gather) instead of NumPy: "
    return ""


def _broadcast(weights: tf.Tensor, values: tf.Tensor, loss: NamedLoss) -> tf.Tensor:
    shape = tuple(weights.shape)
    while weights.shape.rank > values.shape.rank and weights.shape[-1] == 1:
        weights = tf.squeeze(weights, -1)
    while weights.shape.rank < values.shape.rank:
        weights = weights[..., tf.newaxis]
    pairs = zip(weights.shape[1:], values.shape[1:], strict=False)
    if weights.shape.rank != values.shape.rank or any(w not in (1, v) for w, v in pairs if None not in (w, v)):
        raise ConfigError(
            f"dataset.weights.{loss.target}",
            list(shape),
            f"do not broadcast to the values of loss {loss.name!r}, of shape {tuple(values.shape)}",
        )
    return tf.broadcast_to(weights, tf.shape(values))
