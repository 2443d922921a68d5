"""Named per-example losses: what each reads, its function, and the sums that make a global mean of its values.

A loss is never reduced to a scalar before its sums over all replicas exist: with per-example values ℓ and weights w the
loss of a global batch is Σ w·ℓ / Σ w (`normalizer: weights`) or Σ w·ℓ / N as Keras does (`normalizer: examples`, N the
number of values), and both sums are taken over all replicas first.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.common.errors import ConfigError
from trainer.components import labels, loss_calls, loss_functions, loss_sums, own_loss, reading, target_shapes
from trainer.components.class_weights import ClassWeights
from trainer.components.loss_functions import PREDICTION, TARGET, Kind, Loss, Scores
from trainer.components.loss_sums import LossSums, LossValues
from trainer.components.predictions import Predictions
from trainer.config import paths
from trainer.config.loss_settings import GLOBAL_BATCH, LossConfig, MetricsConfig
from trainer.config.paths import HEADS, LAYERS, TARGETS, Path


@dataclasses.dataclass(frozen=True)
class NamedLoss:
    """One loss of the configuration, ready to compute.

    Attributes:
      name: its name in the configuration and in every report.
      head: name of the model's output it reads; None where it does not compare a head with a target.
      slice: start and stop of what it reads of that output's last axis; None for all of it.
      target: name of the target it compares with; None as for `head`.
      function: `function(target, prediction)`, with `reads` a function of those arguments → one value per example,
        shape (examples, ...).
      every: it takes part in one of `every` steps.
      offset: the first step in which it takes part, counted from 0.
      variables: patterns of the paths of the only variables it updates; None: all that it reaches.
      normalizer: what Σ w·ℓ is divided by, "weights" or "examples"; "sum": by nothing.
      targets_are_classes: whether the target holds class indices; None where its shape is the function's own affair.
      pointwise: whether it is a mean over the last axis, so that every number of a target can have a weight.
      takes_probabilities: whether it could take logits but is not set to, so that predictions must lie in [0, 1].
      scores: what its predictions are.
      ignored_class: the class that it leaves out; None: none.
      over: the examples that its function sees together, as in the configuration; None: each is on its own.
      may_compare: whether the value of an example may depend on other examples, as far as its name says.
      class_weights: weights of its target's classes; None where all weigh the same.
      reads: argument of its function → what it is given; None: a target and a prediction.
      takes_derivative: whether its function has an argument `derivative`, too.
      added_by: name of the layer that adds it itself, in place of a function; None: none does.
      scalar_is_mean: whether a value that is not one for each example counts as the mean over the examples; else it is
        refused.
      nan_is_missing: whether NaN in a floating target says that there is no label, as a mask does.
    """

    name: str
    head: str | None
    slice: tuple[int, int] | None
    target: str | None
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
    reads: Mapping[str, Path] | None = None
    takes_derivative: bool = False
    added_by: str | None = None
    scalar_is_mean: bool = False
    nan_is_missing: bool = False

    @property
    def source(self) -> str:
        """The parts of the model that it reads, in words: a head with its slice, or heads and layers."""
        if self.head is None:
            of_model = [str(path) for path in self.paths if path.kind in (HEADS, LAYERS)]
            return ", ".join(of_model) or (f"layer {self.added_by!r}" if self.added_by else "its inputs")
        return f"head {self.head!r}" + ("" if self.slice is None else f" from {self.slice[0]} to {self.slice[1]}")

    @property
    def paths(self) -> tuple[Path, ...]:
        """All that it reads, each once."""
        if self.head is not None:
            return Path(HEADS, self.head), Path(TARGETS, self.target)
        return tuple(dict.fromkeys((self.reads or {}).values()))

    def names(self, kind: str) -> list[str]:
        """The names of all of one kind (`config.paths.KINDS`) that it reads."""
        return [path.name for path in self.paths if path.kind == kind]

    @property
    def compares_a_pair(self) -> bool:
        """True where its function is called as `function(target, prediction)`."""
        return self.reads is None or isinstance(self.function, keras.losses.Loss)

    @property
    def function_name(self) -> str:
        """The name of its function."""
        return loss_functions.name_of(self.function)

    def prediction(self, outputs: Mapping[str, Any]) -> Any:
        """Returns the head or slice that it reads of the model's outputs (tensors, or symbolic ones of Keras)."""
        output = outputs[self.head]
        return output if self.slice is None else output[..., self.slice[0] : self.slice[1]]

    def mask(self, predictions: Predictions) -> tf.Tensor | None:
        """Returns the mask of what it reads; None where that has none."""
        mask = reading.mask(self.paths, predictions)
        if self.slice is None:
            return mask
        whole = mask is not None and mask.shape.rank == predictions.outputs[self.head].shape.rank
        return mask[..., self.slice[0] : self.slice[1]] if whole else mask

    def arguments(self, predictions: Predictions, batch: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Returns what its function is given, by argument; a target and a prediction as Keras calls them."""
        if self.reads is not None:
            return {name: reading.tensor(path, predictions, batch) for name, path in self.reads.items()}
        return {TARGET: batch["targets"][self.target], PREDICTION: self.prediction(predictions.outputs)}

    def takes_part(self, step: tf.Tensor) -> tf.Tensor:
        """Returns a scalar bool, True where the loss is due in a step (counted from 0)."""
        return tf.equal((step - self.offset) % self.every, 0)


def build(name: str, config: LossConfig) -> NamedLoss:
    """Resolves a loss of the configuration; raises ConfigError where its function or an argument does not exist."""
    variables = None if config.variables is None else tuple(config.variables)
    if config.from_ is not None:
        named = added(name, config.from_, config.normalizer, config.every, config.offset)
        return dataclasses.replace(named, variables=variables)
    field = f"losses.{name}"
    resolved = loss_functions.build(config.loss, f"{field}.loss", config.reads, f"{field}.reads")
    reading.check_over(config.over, f"{field}.over", takes_derivative=resolved.takes_derivative)
    head, target, reads = config.head, config.target, None
    if config.reads is not None:
        reads = {argument: paths.parse(text) for argument, text in config.reads.items()}
        if isinstance(resolved.function, keras.losses.Loss):
            of_target, of_prediction = reads[TARGET], reads[PREDICTION]
            if (of_target.kind, of_prediction.kind) == (TARGETS, HEADS):  # what it needs of both can be checked
                head, target, reads = of_prediction.name, of_target.name, None
    return NamedLoss(
        name=name,
        head=head,
        slice=config.slice,
        target=target,
        every=config.every,
        offset=config.offset,
        variables=variables,
        normalizer=config.normalizer,
        over=config.over,
        reads=reads,
        **resolved._asdict(),
    )


def added(name: str, layer: str, normalizer: str = "weights", every: int = 1, offset: int = 0) -> NamedLoss:
    """The loss that a layer adds itself, by `add_loss` or its `activity_regularizer`.

    Args:
      name: the loss's name.
      layer: the layer's name, as `models.names.layers_by_name` has it, or `config.paths.MODEL`; what layers in it add
        belongs to it unless a loss names those.
      normalizer: "weights" or "examples".
      every: it takes part in one of `every` steps.
      offset: the first step in which it takes part.
    """
    return _without_function(name, normalizer=normalizer, every=every, offset=offset, added_by=layer)


def measured(name: str, config: MetricsConfig, losses: Sequence[NamedLoss]) -> NamedLoss:
    """A loss without a function that reads what metrics read; `losses` say what a head's numbers are."""
    alike = [loss for loss in losses if (loss.head, loss.slice) == (config.head, config.slice)]
    pair = {"head": config.head, "slice": config.slice, "target": config.target}
    if not alike:
        return _without_function(name, **pair)
    loss = min(alike, key=lambda loss: loss.target != config.target)
    return _without_function(name, **pair, scores=loss.scores, function=own_loss.of_head(loss, config.target))


def _without_function(name: str, **fields: Any) -> NamedLoss:
    plain = {
        **dict.fromkeys(("head", "slice", "target", "function", "variables", "targets_are_classes")),
        **dict.fromkeys(("ignored_class", "over")),
        **dict.fromkeys(("pointwise", "takes_probabilities", "may_compare"), False),
        "every": 1,
        "offset": 0,
        "normalizer": "weights",
        "scores": Scores(Kind.OTHER, are_probabilities=True),
    }
    return NamedLoss(name, **plain | fields)


def compute(loss: NamedLoss, predictions: Predictions, batch: Mapping[str, Mapping[str, tf.Tensor]]) -> LossValues:
    """The values of one loss over a replica's part of the batch, and the weights of their labels.

    Args:
      loss: the loss.
      predictions: of the model, batch first.
      batch: `targets` and, where labels are missing or weighted, `weights`, each by target name. Weights broadcast to
        the loss's values: (examples,) or any shape that fits them from the left; for a mean over the last axis (squared
        error, say) also one for every number of the target. Of several targets that it reads the weights multiply.

    Raises:
      ConfigError: the function returns a scalar, or weights or a mask that do not broadcast to its values.
    """
    if loss.added_by is not None:
        return _added(loss, predictions)
    given, field = loss.arguments(predictions, batch), f"losses.{loss.name}.loss"
    weights, mask = reading.weight(loss.paths, batch), loss.mask(predictions)
    of_classes = None if loss.class_weights is None else loss.class_weights.of(given[TARGET])
    if loss.compares_a_pair:
        target, prediction, there = given[TARGET], given[PREDICTION], None
        if loss.reads is not None:  # else `loss_checks` has compared their shapes
            target_shapes.check_read(loss.function, loss.targets_are_classes, loss.reads, given, field)
        if loss.nan_is_missing and target.dtype.is_floating:
            target, there = own_loss.without_nan(loss.function, target, prediction)
        of_labels = (weights, of_classes, mask, there)
        numbers = tf.TensorSpec(own_loss.shape_of_numbers(loss.function, prediction.shape), prediction.dtype)
        each_number = loss.pointwise and any(labels.are_of_every_number(x, target, numbers) for x in of_labels)
        if each_number:
            prediction, target = own_loss.by_number(loss.function, prediction), target[..., tf.newaxis]
        values, own_mask = loss_calls.of_pair(loss.function, field, target, prediction, mean=loss.scalar_is_mean)
        if there is not None:
            own_mask = labels.both(own_mask, labels.of_first_axes(there, values.shape.rank))
        if each_number and loss.normalizer == "sum":  # of the means over the last axis
            values /= tf.cast(tf.shape(values)[-1], values.dtype)
    else:
        given, there = reading.without_nan(loss.reads, given) if loss.nan_is_missing else (given, ())
        tape = predictions.tape if loss.takes_derivative else None
        values, own_mask = reading.values(loss.function, field, given, tape)
        for each in there:
            own_mask = labels.both(own_mask, labels.of_first_axes(each, values.shape.rank))
    _check_fit(loss, values, weights, of_classes, (mask, own_mask))
    return LossValues(values, weights, of_classes, labels.both(mask, own_mask))


def _added(loss: NamedLoss, predictions: Predictions) -> LossValues:
    """The values of what layers add: its mean, for each of a replica's examples; without a label if it is nothing."""
    examples = tf.shape(next(iter(predictions.outputs.values())))[:1]
    scalar = predictions.added.get(loss.added_by)
    if scalar is None:
        nothing = tf.zeros(examples, keras.config.floatx())
        return LossValues(nothing, nothing, None, None)
    return LossValues(tf.broadcast_to(tf.cast(scalar, keras.config.floatx()), examples), None, None, None)


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


def _check_fit(loss: NamedLoss, values: tf.Tensor, weights: Any, of_classes: Any, masks: Sequence[Any]) -> None:
    """Raises ConfigError for weights or a mask that do not broadcast to a loss's values."""
    shape = tuple(values.shape)
    for field, found in (
        (f"dataset.weights.{' * '.join(loss.names(TARGETS))}", weights),
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
