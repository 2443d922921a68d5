"""Losses that are absent from a step: without a label in its batch, not due, or of weight 0."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from trainer.components.losses import NamedLoss
from trainer.config.paths import TARGETS
from trainer.gradients.reach import Jacobian
from trainer.step.objectives import Objectives


def can_lack_labels(losses: Sequence[NamedLoss], spec: Mapping[str, Any], masked: Sequence[bool]) -> tuple[bool, ...]:
    """Returns for each loss whether its labels may weigh less than 1, or it is a sum, which nothing divides.

    A batch may hold no label for the former.

    Args:
      losses: the losses.
      spec: of the training data: `targets` and perhaps `weights`, each by target name.
      masked: for each loss, whether a mask or an ignored class can take some of its values out.
    """
    weighted = spec.get("weights", {})
    return tuple(
        any(target in weighted for target in loss.names(TARGETS))
        or is_masked
        or loss.normalizer == "sum"
        or loss.class_weights is not None
        for loss, is_masked in zip(losses, masked, strict=True)
    )


def can_be_absent(objectives: Objectives, can_lack_labels: Sequence[bool]) -> tuple[bool, ...]:
    """Returns for each loss whether there can be steps in which it takes no part.

    Args:
      objectives: the losses and their weights.
      can_lack_labels: for each loss, whether a batch can hold no label for it.
    """
    reasons = zip(objectives.losses, can_lack_labels, objectives.can_lack_weight, strict=True)
    return tuple(lacks_labels or lacks_weight or loss.every > 1 for loss, lacks_labels, lacks_weight in reasons)


def cleared(
    jacobian: Jacobian, owners: Sequence[tuple[int, ...]], active: tf.Tensor, absent: Sequence[bool]
) -> Jacobian:
    """The gradients with zeros in place of those of inactive losses, which then play no part, be they NaN.

    Args:
      jacobian: lists of gradients, for example one for each variable.
      owners: for each list, the indices of the losses that its gradients belong to.
      active: (K,) bool.
      absent: for each loss, whether it can be inactive; gradients of others are passed on as they are.
    """
    found = [list(gradients) for gradients in jacobian]
    for k in (k for k, can_be in enumerate(absent) if can_be):
        places = [(v, i) for v, by in enumerate(owners) for i, owner in enumerate(by) if owner == k]
        own = or_zeros([found[v][i] for v, i in places], active[k])
        for (v, i), gradient in zip(places, own, strict=True):
            found[v][i] = gradient
    return tuple(tuple(gradients) for gradients in found)


def or_zeros(gradients: Sequence[tf.Tensor], wanted: tf.Tensor) -> list[tf.Tensor]:
    """The gradients, not copied; zeros where the scalar bool `wanted` does not hold."""
    return tf.cond(wanted, lambda: list(gradients), lambda: [tf.zeros_like(gradient) for gradient in gradients])
