"""What of a configuration decides what a step costs. Needs no TensorFlow."""

import dataclasses
from collections.abc import Mapping

from trainer.combine import registry
from trainer.combine.registry import LooksAt
from trainer.config.settings import Config, method_options

_WIDTHS = {"bfloat16": 2}  # of `reduce_dtype`, in bytes
_GRAMIANS = (LooksAt.GRAMIAN, LooksAt.BLOCK_GRAMIANS, LooksAt.CROSS_GRAMIAN, LooksAt.MOVING_GRAMIAN)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What of a configuration decides what its step costs.

    Attributes:
      passes: "per_loss": K backward passes; "features": K through the heads and one through the trunk; "fused": one.
      full_every: `passes` hold in one of so many steps; the others are fused, with the weights found there.
      halves: the passes per loss are 2 K, K over each half of the batch; the first half's gradients are mixed.
      gramian: inner products of the gradients that are reduced are computed, or of their moving averages.
      moving: moving averages of the gradients of shared variables are kept and mixed.
      elementwise: the gradients of shared variables are combined element by element.
      receivers: how many mixed gradients of a variable that k losses reach are applied: "one", "own" (k, each of its
        own gradient), "all" (K, each of all k).
      heads_apart: a fused pass is one for shared variables and one, without the trunk, for task-specific ones, whose
        weights are others.
      loss_valued: a fused pass needs the reduced losses first.
      observes: the losses are computed once more after the update.
      missing: labels may be missing, so that a fused pass needs their number first.
      micro_batches: parts of the batch, one after another.
      recompute: every backward pass through the trunk computes it once more.
      reduce_width: bytes of each number that travels; None: as wide as its variable.
      bytes_per_pack: about how much is reduced at once; 0: everything.
      clip: the norm of what is applied is bounded.
    """

    passes: str = "per_loss"
    full_every: int = 1
    halves: bool = False
    gramian: bool = False
    moving: bool = False
    elementwise: bool = False
    receivers: str = "one"
    heads_apart: bool = False
    loss_valued: bool = False
    observes: bool = False
    missing: bool = False
    micro_batches: int = 1
    recompute: bool = False
    reduce_width: int | None = None
    bytes_per_pack: int = 0
    clip: bool = False

    @property
    def plain_sum(self) -> "Plan":
        """One backward pass of the losses' sum, with everything else alike."""
        return Plan(
            "fused",
            missing=self.missing,
            micro_batches=self.micro_batches,
            recompute=self.recompute,
            reduce_width=self.reduce_width,
            bytes_per_pack=self.bytes_per_pack,
            clip=self.clip,
        )

    @property
    def between(self) -> "Plan":
        """A step between two full ones: the plain sum, and what the method does in every step."""
        return dataclasses.replace(
            self.plain_sum, heads_apart=self.heads_apart, loss_valued=self.loss_valued, observes=self.observes
        )


def of(config: Config, *, missing: bool) -> Plan:
    """The plan of a resolved configuration.

    Args:
      config: the configuration.
      missing: whether some labels may be missing.
    """
    combine = config.combine
    method, _ = registry.resolve(combine.name, method_options(combine))
    passes = "features" if config.gradients == "features" else "per_loss"
    receivers = "own" if method.diagonal else "all"
    return Plan(
        passes="fused" if config.reduction == "fused" else passes,
        full_every=combine.update_every,
        halves=method.looks_at is LooksAt.CROSS_GRAMIAN,
        gramian=method.looks_at in _GRAMIANS,
        moving=method.looks_at is LooksAt.MOVING_GRAMIAN,
        elementwise=method.looks_at is LooksAt.ELEMENTS,
        receivers=receivers if combine.apply == "per_loss" else "one",
        heads_apart=method.yields_weights and not method.weighs_task_specific,
        # Between steps that find weights these are known before the losses, but not what log losses divide by.
        loss_valued=combine.log_losses or (method.looks_at is LooksAt.LOSSES and combine.update_every == 1),
        observes=method.observe is not None,
        missing=missing,
        micro_batches=config.micro_batches,
        recompute=config.model.recompute,
        reduce_width=_WIDTHS.get(config.reduce_dtype),
        bytes_per_pack=config.bytes_per_pack,
        clip=config.clip_norm is not None,
    )


def classes(plan: Plan) -> Mapping[str, Plan]:
    """Every class of methods by what it is called in a table, with everything else as in `plan`; plain sum first."""
    plain = plan.plain_sum
    per_loss = dataclasses.replace(plain, passes="per_loss")
    gramian = dataclasses.replace(per_loss, gramian=True, heads_apart=True)
    from_losses = dataclasses.replace(plain, loss_valued=True)
    return {
        "plain sum (`fused`)": plain,
        "weights from the losses (`fused`)": from_losses,
        "weights from the losses before and after (`fused`)": dataclasses.replace(from_losses, observes=True),
        "Gramian (`per_loss`)": gramian,
        "Gramian, `update_every=10`": dataclasses.replace(gramian, full_every=10),
        "Gramian, `gradients=features`": dataclasses.replace(gramian, passes="features"),
        "Gramian of two half batches (`per_loss`)": dataclasses.replace(gramian, halves=True),
        "Gramian of moving averages (`per_loss`)": dataclasses.replace(gramian, moving=True),
        "element by element (`per_loss`)": dataclasses.replace(per_loss, elementwise=True),
    }
