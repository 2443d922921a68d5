"""Named per-example losses: a head, a target, a function, and the sums that make a global mean of them.

A loss is never reduced to a scalar before its sums over all replicas exist: with per-example values ℓ and weights w the
loss of a global batch is Σ w·ℓ / Σ w (`normalizer: weights`) or Σ w·ℓ / N as Keras does (`normalizer: examples`, N the
number of values), and both sums are taken over all replicas first.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.common import import_paths
from trainer.common.errors import ConfigError, first_line
from trainer.components import labels, loss_functions, loss_sums, loss_values
from trainer.components.class_weights import ClassWeights
from trainer.components.loss_functions import Loss, Scores
from trainer.components.loss_sums import LossSums, LossValues
from trainer.components.predictions import Predictions, mask_of
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
      normalizer: what Σ w·ℓ is divided by, "weights" or "examples"; "sum": by nothing.
      targets_are_classes: whether the target holds class indices; None where its shape is the function's own affair.
      pointwise: whether it is a mean over the last axis, so that every number of a target can have a weight.
      takes_probabilities: whether it could take logits but is not set to, so that predictions must lie in [0, 1].
      scores: what its predictions are.
      ignored_class: the class that it leaves out; None: none.
      class_weights: weights of its target's classes; None where all weigh the same.
      over: the examples that its function sees together, as in the configuration; None: each is on its own.
      may_compare: whether the value of an example may depend on other examples, as far as its name says.
      scalar_is_mean: whether a value that is not one for each example counts as the mean over the examples; else it is
        refused.
      nan_is_missing: whether NaN in a floating target says that there is no label, as a mask does.
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
    scores: Scores
    ignored_class: int | None
    over: str | None
    may_compare: bool
    class_weights: ClassWeights | None = None
    scalar_is_mean: bool = False
    nan_is_missing: bool = False

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

    def mask(self, predictions: Predictions) -> tf.Tensor | None:
        """Returns the mask of what it reads; None where its head has none."""
        mask = predictions.masks.get(self.head)
        whole = mask is not None and mask.shape.rank == predictions.outputs[self.head].shape.rank
        return mask[..., self.slice[0] : self.slice[1]] if whole and self.slice is not None else mask

    def takes_part(self, step: tf.Tensor) -> tf.Tensor:
        """Returns a scalar bool, True where the loss is due in a step (counted from 0)."""
        return tf.equal((step - self.offset) % self.every, 0)


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
        scores=resolved.scores,
        ignored_class=resolved.ignored_class,
        over=config.over,
        may_compare=resolved.may_compare,
    )


def compute(loss: NamedLoss, predictions: Predictions, batch: Mapping[str, Mapping[str, tf.Tensor]]) -> LossValues:
    """The values of one loss over a replica's part of the batch, and the weights of their labels.

    Args:
      loss: the loss.
      predictions: of the model, batch first.
      batch: `targets` and, where labels are missing or weighted, `weights`, each by target name. Weights broadcast to
        the loss's values: (examples,) or any shape that fits them from the left; for a mean over the last axis (squared
        error, say) also one for every number of the target.

    Raises:
      ConfigError: the function returns a scalar, or weights or a mask that do not broadcast to its values.
    """
    prediction, target = loss.prediction(predictions.outputs), batch["targets"][loss.target]
    weights, mask = batch.get("weights", {}).get(loss.target), loss.mask(predictions)
    of_classes = None if loss.class_weights is None else loss.class_weights.of(target)
    there = None
    if loss.nan_is_missing and target.dtype.is_floating:
        target, there = labels.without_nan(target)
    every_number = (labels.are_of_every_number(each, target, prediction) for each in (weights, of_classes, mask, there))
    if loss.pointwise and any(every_number):
        prediction, target = prediction[..., tf.newaxis], target[..., tf.newaxis]
    values, own_mask = _values(loss, prediction, target)
    if there is not None:
        own_mask = labels.both(own_mask, labels.of_first_axes(there, values.shape.rank))
    _check_fit(loss, values, weights, of_classes, (mask, own_mask))
    return LossValues(values, weights, of_classes, labels.both(mask, own_mask))


def sums(
    loss: NamedLoss,
    predictions: Predictions,
    batch: Mapping[str, Mapping[str, tf.Tensor]],
    part: tf.Tensor | None = None,
) -> LossSums:
    """Σ w·ℓ and Σ w of one loss over a replica's part of the batch; arguments and errors are those of `compute`.

    Args:
      loss: the loss.
      predictions: of the model.
      batch: `targets` and perhaps `weights`.
      part: (examples,), 1 for examples that count and 0 for others; None: all count. Of a loss over the global batch
        the gradient is that of the sum over all examples all the same (see `comparisons.py`).
    """
    return loss_sums.of_values(compute(loss, predictions, batch), part, gradient_of_all=loss.over == GLOBAL_BATCH)


def _values(loss: NamedLoss, prediction: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
    """The function's values, and the mask that it gives them (False where `ignore_class` takes one out)."""
    field = f"losses.{loss.name}.loss"
    try:
        found = _computed(loss.function, target, prediction)
        # The mask of Keras' `circle` says where its value is 0, not where a label is.
        values, mask = tf.convert_to_tensor(found), None if loss.function_name.lower() == "circle" else mask_of(found)
    except ConfigError:
        raise
    except import_paths.USER_ERRORS as error:
        raise ConfigError(
            field,
            loss.function_name,
            f"fails on a target of shape {target.shape} and a prediction of shape {prediction.shape}: "
            f"{loss_values.advice(error)}{type(error).__name__}: {first_line(error)}",
        ) from error
    if loss.scalar_is_mean:
        values = loss_values.of_mean(values, prediction)
    if values.shape.rank is None:
        values = loss_values.one_per_example(values, prediction, f"{field}={loss.function_name}")
    if values.shape.rank == 0:
        raise ConfigError(field, loss.function_name, loss_values.why_no_scalar(loss.function, field, prediction))
    if not values.dtype.is_floating:
        raise ConfigError(
            field,
            loss.function_name,
            f"returns {values.dtype.name}; it must return floating-point values",
        )
    if loss.scalar_is_mean:
        return tf.cast(values, keras.config.floatx()), None if mask is None else tf.cast(mask, tf.bool)
    # Values beyond the examples belong to the prediction's own axes; anything else is a broadcast that was not meant.
    given, expected = values.shape.as_list(), prediction.shape.as_list()[: values.shape.rank]
    if len(given) > prediction.shape.rank or any(g not in (e, None) for g, e in zip(given, expected, strict=True) if e):
        raise ConfigError(
            field,
            loss.function_name,
            f"returns shape {tuple(given)} for a target of shape {target.shape} and a prediction of shape "
            f"{prediction.shape}; it must return one value per example"
            f"{loss_values.axes(loss.function, field, prediction)}",
        )
    return tf.cast(values, keras.config.floatx()), None if mask is None else tf.cast(mask, tf.bool)


def _computed(function: Loss, target: tf.Tensor, prediction: tf.Tensor) -> Any:
    """A function's values as it returns them, with their mask; a `Loss` object applies and forgets it when called."""
    if not isinstance(function, keras.losses.Loss) or type(function).__call__ is not keras.losses.Loss.__call__:
        return function(target, prediction)
    target, prediction = (keras.ops.convert_to_tensor(each, dtype=function.dtype) for each in (target, prediction))
    return function.call(target, prediction)


def _check_fit(loss: NamedLoss, values: tf.Tensor, weights: Any, of_classes: Any, masks: Sequence[Any]) -> None:
    """Raises ConfigError for weights or a mask that do not broadcast to a loss's values."""
    shape = tuple(values.shape)
    for field, found in (
        (f"dataset.weights.{loss.target}", weights),
        (f"losses.{loss.name}.class_weights", of_classes),
    ):
        if found is not None and not labels.fit(found, values):
            raise ConfigError(
                field, list(found.shape), f"do not broadcast to the values of loss {loss.name!r}, of shape {shape}"
            )
    for mask in masks:
        if mask is not None and not labels.fit(mask, values):
            raise ConfigError(
                f"losses.{loss.name}.loss",
                loss.function_name,
                f"gives values of shape {shape}, but {loss.source} has a mask of shape {tuple(mask.shape)}: return a "
                "value for every step, or end the mask before the head",
            )
