"""Predictions in a target's own words: for each loss, its output as a value with units or as a class.

What a head's numbers mean is told from the kind of the loss, and what the target was before it was prepared from the
preparation. All is TensorFlow's, without tables, so that an exported graph can hold it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from input_pipelines.names import Names
from input_pipelines.preparation.inverses import Inverse
from trainer.common import schema
from trainer.components import predicted_classes, predicted_values, prediction_parts
from trainer.components.distillation_losses import Distillation
from trainer.components.distribution_losses import GaussianNLL, Quantile
from trainer.components.loss_functions import Kind
from trainer.components.losses import NamedLoss
from trainer.components.prediction_parts import Output, Parts, Target
from trainer.components.ranking_losses import PairwiseLogistic, SoftmaxRanking

_SAY_NOTHING = ("circle", "contrastive", "tripletsemihard", "ctc")  # of a target: their heads give embeddings, or paths


@dataclasses.dataclass(frozen=True)
class PredictedTarget:
    """A loss's prediction of its target.

    Attributes:
      loss: the loss.
      outputs: what is given, in a fixed order.
    """

    loss: NamedLoss
    outputs: tuple[Output, ...]
    _parts: Parts

    def tensors(self, heads: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns output name → tensor, batch first, from the model's outputs in full precision."""
        found = self._parts.compute(self.loss.prediction(heads))
        return {prediction_parts.name_of(self.loss.name, key): found[key] for key in self._parts.described}


def build(
    losses: Sequence[NamedLoss],
    heads: Mapping[str, Any],
    targets: Mapping[str, Any],
    names: Names,
    inverses: Mapping[str, Inverse],
) -> tuple[PredictedTarget, ...]:
    """Returns the predicted target of every loss that compares a head with one, in the losses' order.

    A loss of embeddings, one that a layer adds and one that reads other things say nothing of a target.

    Args:
      losses: the losses.
      heads: head name → `.shape` (batch first) and `.dtype` of the model's output.
      targets: target name → the same of prepared targets.
      names: of the targets' columns and classes.
      inverses: target name → the way back to its source's units; one that is not there stays as it is.
    """
    found = []
    for loss in losses:
        if loss.head is None or schema.squashed(loss.function_name) in _SAY_NOTHING:
            continue
        given, key = targets[loss.target], f"targets.{loss.target}"
        target = Target(
            loss.target,
            tuple(given.shape[1:]),
            tf.as_dtype(given.dtype),
            inverses.get(loss.target, Inverse()),
            tuple(names.columns.get(key, ())),
            tuple(names.classes.get(key, ())),
        )
        prediction = _spec(loss.prediction(heads))
        parts = _parts(loss, target, prediction)
        found.append(PredictedTarget(loss, prediction_parts.outputs(loss.name, parts, prediction), parts))
    return tuple(found)


def of(predicted: Sequence[PredictedTarget], heads: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns output name → tensor of several predicted targets.

    Args:
      predicted: as `build` returns them.
      heads: head name → the model's output, batch first, half-precision ones as float32 (`predictions.of`).
    """
    return {name: tensor for each in predicted for name, tensor in each.tensors(heads).items()}


def _parts(loss: NamedLoss, target: Target, prediction: tf.TensorSpec) -> Parts:
    """The parts of a loss's prediction, by its kind."""
    are_logits = not loss.scores.are_probabilities
    match loss.scores.kind:
        case Kind.CLASSES:
            return predicted_classes.of_several(target, prediction, are_logits=are_logits, are_probabilities=True)
        case Kind.LABELS if target.inverse.changes:  # a number that was brought to 0 to 1, such as a pixel's
            return predicted_values.of_value(target, tf.sigmoid if are_logits else tf.identity)
        case Kind.LABELS:
            return predicted_classes.of_label(target, prediction, are_logits=are_logits, are_probabilities=True)
        case Kind.MARGINS:
            return predicted_classes.of_label(target, prediction, are_logits=False, are_probabilities=False)
    match loss.function:
        case Distillation():
            return predicted_classes.of_several(target, prediction, are_logits=True, are_probabilities=True)
        case PairwiseLogistic() | SoftmaxRanking():
            return predicted_classes.of_scores(target)
        case GaussianNLL():
            return predicted_values.of_normal(target, loss.function)
        case Quantile():
            return predicted_values.of_quantiles(target, loss.function)
    if _are_scores_of_classes(loss, target, tuple(prediction.shape[1:])):
        return predicted_classes.of_several(target, prediction, are_logits=False, are_probabilities=False)
    if tuple(prediction.shape[1:]) in (target.shape, (*target.shape, 1)) or (*prediction.shape[1:], 1) == target.shape:
        return predicted_values.of_value(target)
    return predicted_values.of_unknown(target, loss.function_name)


def _are_scores_of_classes(loss: NamedLoss, target: Target, shape: tuple[int | None, ...]) -> bool:
    """True where a head's last axis has a number for each class: by the loss, the target's vectors or its indices."""
    if schema.squashed(loss.function_name) == "categoricalhinge":
        return True
    if target.inverse.one_hot:
        return shape == target.shape
    of_indices = loss.targets_are_classes is None and target.dtype.is_integer and shape[-1:] not in ((), (1,))
    return of_indices and target.shape in (shape[:-1], (*shape[:-1], 1))


def _spec(tensor: Any) -> tf.TensorSpec:
    return tf.TensorSpec(tuple(tensor.shape), tf.float32 if _is_half(tensor) else tf.as_dtype(tensor.dtype))


def _is_half(tensor: Any) -> bool:
    return tf.as_dtype(tensor.dtype) in (tf.float16, tf.bfloat16)
