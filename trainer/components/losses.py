"""Named per-example losses: a head, a target, a function, and the sums that make a global mean of them.

A loss is never reduced to a scalar before its sums over all replicas exist: with per-example values ℓ and weights w the
loss of a global batch is Σ w·ℓ / Σ w (`normalizer: weights`) or Σ w·ℓ / N as Keras does (`normalizer: examples`, N the
number of values), and both sums are taken over all replicas first.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError, first_line
from trainer.components import keras_objects
from trainer.components.class_weights import ClassWeightedBinaryCrossentropy
from trainer.config.settings import LossConfig

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
# Losses whose targets are class indices: one number where the prediction has one per class.
_CLASS_INDICES = ("SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy")
# Losses whose target has a shape of its own.
_FREE_SHAPE = ("CTC", "Circle")
# Losses that are the mean over the last axis of a function of one number and one prediction.
_POINTWISE = (
    "MeanSquaredError",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredLogarithmicError",
    "Huber",
    "LogCosh",
    "Poisson",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "ClassWeightedBinaryCrossentropy",
)
_ROUNDING = 1e-3  # a softmax in half precision exceeds 1 by less


@dataclasses.dataclass(frozen=True)
class NamedLoss:
    """One loss of the configuration, ready to compute.

    Attributes:
      name: its name in the configuration and in every report.
      head: name of the model's output it reads.
      slice: start and stop of what it reads of that output's last axis; None for all of it.
      target: name of the target it compares with.
      function: `function(target, prediction)` → one value per example, shape (examples, ...).
      every: it takes part in one of so many steps.
      offset: the first of them, counted from 0.
      variables: patterns of the paths of the only variables it updates; None: all that it reaches.
      normalizer: "weights" or "examples".
      targets_are_classes: whether the target holds class indices; None where its shape is the function's own affair.
      pointwise: whether it is a mean over the last axis, so that every number of a target can have a weight.
      takes_probabilities: whether it could take logits and was not told to, so that predictions must lie in [0, 1].
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

    @property
    def source(self) -> str:
        """What it reads, in words."""
        return f"head {self.head!r}" + ("" if self.slice is None else f" from {self.slice[0]} to {self.slice[1]}")

    def prediction(self, outputs: Mapping[str, Any]) -> Any:
        """What it reads of the model's outputs (tensors, or symbolic ones of Keras)."""
        output = outputs[self.head]
        return output if self.slice is None else output[..., self.slice[0] : self.slice[1]]

    def takes_part(self, step: tf.Tensor) -> tf.Tensor:
        """Whether the loss is due in a step (counted from 0): scalar bool."""
        return tf.equal((step - self.offset) % self.every, 0)


class LossSums(NamedTuple):
    """What one replica knows of one loss; each a scalar of the loss's dtype.

    Attributes:
      weighted: Σ w·ℓ.
      weights: Σ w (the number of values where there are no weights).
      per_example: number of values per example.
    """

    weighted: tf.Tensor
    weights: tf.Tensor
    per_example: tf.Tensor


def build(name: str, config: LossConfig) -> NamedLoss:
    """Resolves a loss of the configuration; raises ConfigError where its function or an argument does not exist."""
    field = f"losses.{name}.loss"
    function_name, arguments = keras_objects.split(config.loss)
    found = keras_objects.find(
        function_name, keras.losses, keras.losses.Loss, kind="loss", field=field, own=[ClassWeightedBinaryCrossentropy]
    )
    if inspect.isclass(found):
        if "reduction" in arguments:
            raise ConfigError(
                f"{field}.reduction", arguments["reduction"], "is the trainer's: it needs one value per example"
            )
        keras_objects.make_numbers(found, arguments, field, lists=("alpha",))  # a focal loss's, one for each class
        if arguments.get("ignore_class") is not None:
            schema.integer(-(2**31))(arguments["ignore_class"], f"{field}.ignore_class")
        # A Loss object would divide by the number of replicas, unless it does not reduce at all.
        function = keras_objects.build(
            found, arguments, field=field, base=keras.losses.Loss, implied={"reduction": "none"}
        )
    else:
        import_paths.check_arguments(found, arguments, field=field, positional=2)
        function = functools.partial(_with_autograph(found), **arguments)
    if import_paths.is_path(function_name) or keras_objects.name_of(found) in _FREE_SHAPE:
        classes = None
    else:
        classes = keras_objects.name_of(found) in _CLASS_INDICES
    return NamedLoss(
        name=name,
        head=config.head,
        slice=config.slice,
        target=config.target,
        function=function,
        every=config.every,
        offset=config.offset,
        variables=None if config.variables is None else tuple(config.variables),
        normalizer=config.normalizer,
        targets_are_classes=classes,
        pointwise=not import_paths.is_path(function_name) and keras_objects.name_of(found) in _POINTWISE,
        takes_probabilities=_takes_probabilities(found, arguments),
    )


def check_shapes(losses: Sequence[NamedLoss], outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> None:
    """Every loss's slice lies within its head's output, and its target has the shape of what it reads.

    Args:
      losses: the losses.
      outputs: head name → tensor or Keras' symbolic tensor, batch first.
      targets: target name → the same.

    Raises:
      ConfigError: naming the first loss whose shapes do not match.
    """
    for loss in losses:
        _check_slice(loss, tuple(outputs[loss.head].shape[1:]))
        prediction, target = tuple(loss.prediction(outputs).shape[1:]), tuple(targets[loss.target].shape[1:])
        if loss.targets_are_classes is None:
            continue
        expected = prediction[:-1] if loss.targets_are_classes else prediction
        allowed = {expected, (*expected, 1)} | (
            {expected[:-1]} if expected[-1:] == (1,) and not loss.targets_are_classes else set()
        )
        if target not in allowed:
            raise ConfigError(
                f"losses.{loss.name}.target",
                loss.target,
                f"has shape {target} per example; with {loss.source}, which gives {prediction}, this loss "
                f"needs {'class indices' if loss.targets_are_classes else 'a target'} of shape {expected}",
            )


def logits_taken_for_probabilities(losses: Sequence[NamedLoss], outputs: Mapping[str, tf.Tensor]) -> list[str]:
    """One line for each loss that takes probabilities and reads, in these outputs, something else.

    Args:
      losses: the losses.
      outputs: head name → predictions for some examples.
    """
    lines = []
    for loss in losses:
        if not loss.takes_probabilities:
            continue
        prediction = loss.prediction(outputs)
        low, high = float(tf.reduce_min(prediction)), float(tf.reduce_max(prediction))
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            lines.append(
                f"losses.{loss.name}: {loss.source} gives values from {low:.3g} to {high:.3g}, but {_describe(loss)} "
                f"takes probabilities (0 to 1): set losses.{loss.name}.loss.from_logits=True, or end the head with a "
                "softmax or sigmoid."
            )
    return lines


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
      part: (examples,), 1 for examples that count and 0 for others; None: all count.

    Raises:
      ConfigError: the function returns a scalar, or weights that do not broadcast to its values.
    """
    prediction, target = loss.prediction(outputs), batch["targets"][loss.target]
    weights = batch.get("weights", {}).get(loss.target)
    if loss.pointwise and weights is not None and weighs_every_number(weights, target, prediction):
        prediction, target = prediction[..., tf.newaxis], target[..., tf.newaxis]
    values = _values(loss, prediction, target)
    per_example = tf.cast(tf.reduce_prod(tf.shape(values)[1:]), values.dtype)
    if weights is None and part is None:
        return LossSums(tf.reduce_sum(values), tf.cast(tf.size(values), values.dtype), per_example)
    weights = tf.ones_like(values) if weights is None else _broadcast(tf.cast(weights, values.dtype), values, loss)
    if part is not None:
        weights *= _broadcast(tf.cast(part, values.dtype), values, loss)
    return LossSums(tf.reduce_sum(weights * values), tf.reduce_sum(weights), per_example)


def weighs_every_number(weights: Any, target: Any, prediction: Any) -> bool:
    """Whether weights are of every number of a target, not of examples, rows or pixels."""
    shape = tuple(weights.shape[1:])
    return len(shape) > 0 and shape[-1] != 1 and shape == tuple(target.shape[1:]) == tuple(prediction.shape[1:])


def _check_slice(loss: NamedLoss, output: tuple[int | None, ...]) -> None:
    if loss.slice is None:
        return
    size = output[-1] if output else 0
    if size is not None and loss.slice[1] > size:
        raise ConfigError(
            f"losses.{loss.name}.slice",
            list(loss.slice),
            f"must end within the last axis of head {loss.head!r}, which gives {output} per example",
        )


def _takes_probabilities(function: Callable, arguments: Mapping[str, Any]) -> bool:
    try:
        from_logits = inspect.signature(function).parameters.get("from_logits")
    except (TypeError, ValueError):  # builtins need not have a signature
        return False
    return from_logits is not None and arguments.get("from_logits", from_logits.default) is False


def _values(loss: NamedLoss, prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    field = f"losses.{loss.name}.loss"
    try:
        values = tf.convert_to_tensor(loss.function(target, prediction))
    except ConfigError:
        raise
    except import_paths.USER_ERRORS as error:
        raise ConfigError(
            field,
            _describe(loss),
            f"fails on a target of shape {target.shape} and a prediction of shape {prediction.shape}: "
            f"{_advice(error)}{type(error).__name__}: {first_line(error)}",
        ) from error
    if values.shape.rank == 0:
        raise ConfigError(
            field,
            _describe(loss),
            "returns a scalar; it must return one value per example (do not average over the batch)",
        )
    if not values.dtype.is_floating:
        raise ConfigError(field, _describe(loss), f"returns {values.dtype.name}; it must return floating-point values")
    # Values beyond the examples belong to the prediction's own axes; anything else is a broadcast that was not meant.
    given, expected = values.shape.as_list(), prediction.shape.as_list()[: values.shape.rank]
    if len(given) > prediction.shape.rank or any(g not in (e, None) for g, e in zip(given, expected, strict=True) if e):
        raise ConfigError(
            field,
            _describe(loss),
            f"returns shape {tuple(given)} for a target of shape {target.shape} and a prediction of shape "
            f"{prediction.shape}; it must return one value per example",
        )
    return tf.cast(values, keras.config.floatx())


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


def _with_autograph(function: Loss) -> Loss:
    """A user's function with Python conditions on tensors turned into graph ones, as Keras' `fit` would."""
    try:
        return tf.autograph.to_graph(function)
    except Exception:  # no source to convert: a builtin, a lambda, a callable object
        return function


def _describe(loss: NamedLoss) -> str:
    function = getattr(loss.function, "func", loss.function)
    return getattr(function, "__name__", type(function).__name__).removeprefix("tf__")
