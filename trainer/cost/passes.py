"""The part of a configuration that decides what a step costs. Needs no TensorFlow."""

import dataclasses
from collections.abc import Mapping

from trainer.combine import registry
from trainer.config import plan as plan_lib
from trainer.config.plan import View, Way
from trainer.config.settings import Config, method_options

_WIDTHS = {"bfloat16": 2}  # of `reduce_dtype`, in bytes


@dataclasses.dataclass(frozen=True)
class Passes:
    """The passes of a step and the work on their gradients: all of a configuration that decides a step's cost.

    Attributes:
      way: `PER_LOSS`: K backward passes; `FEATURES`: K through the heads and one through the trunk; `FUSED`: one.
      full_every: `way` holds in one of `full_every` steps; the others are fused, with the coefficients found there.
      halves: the passes per loss are 2 K, K over each half of the batch; the first half's gradients are mixed.
      gramian: inner products of the gradients that are reduced are computed, or of their moving averages.
      moving: moving averages of the gradients of shared variables are kept and mixed.
      elementwise: the gradients of shared variables are combined element by element.
      receivers: how many mixed gradients of a variable that k losses reach are applied: "one", "own" (k, each of its
        own gradient), "all" (K, each of all k).
      heads_apart: a fused pass is one for shared variables and one, without the trunk, for task-specific ones, whose
        coefficients are others.
      loss_valued: a fused pass needs the reduced losses first.
      observes: the losses are computed once more after the update.
      missing: labels may be missing, so that a fused pass needs their number first.
      numbers: how many of each loss are summed: Σ w·ℓ and Σ w, and the number of values where masks take some out.
      micro_batches: parts of the batch, one after another.
      recompute: every backward pass through the trunk computes it once more.
      reduce_width: bytes of each number that travels; None: as wide as its variable.
      bytes_per_pack: about how much is reduced at once; 0: everything.
      clip: the norm of what is applied is bounded.
      why: the reason for `way`, where the configuration leaves that to the plan; else empty.
    """

    way: Way = Way.PER_LOSS
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
    numbers: int = 2
    micro_batches: int = 1
    recompute: bool = False
    reduce_width: int | None = None
    bytes_per_pack: int = 0
    clip: bool = False
    why: str = dataclasses.field(default="", compare=False)

    @property
    def plain_sum(self) -> "Passes":
        """One backward pass of the losses' sum, with everything else alike."""
        return Passes(
            Way.FUSED,
            missing=self.missing,
            numbers=self.numbers,
            micro_batches=self.micro_batches,
            recompute=self.recompute,
            reduce_width=self.reduce_width,
            bytes_per_pack=self.bytes_per_pack,
            clip=self.clip,
        )

    @property
    def between(self) -> "Passes":
        """A step between two full ones: the plain sum, and what the method does in every step."""
        return dataclasses.replace(
            self.plain_sum, heads_apart=self.heads_apart, loss_valued=self.loss_valued, observes=self.observes
        )


def of(config: Config, *, missing: bool, numbers: int = 2) -> Passes:
    """The passes of a resolved configuration; not those that only measure.

    Args:
      config: the configuration.
      missing: whether some labels may be missing.
      numbers: of each loss that are summed over replicas.
    """
    plan = plan_lib.of(config, labels_can_be_missing=missing)
    method, _ = registry.resolve(config.combine.name, method_options(config.combine))
    receivers = "own" if method.diagonal else "all"
    return Passes(
        way=Way.FUSED if plan.probes else plan.way,
        full_every=config.combine.update_every,
        halves=plan.view is View.TWO_HALVES,
        gramian=plan.gramian,
        moving=plan.view is View.MOVING_AVERAGES,
        elementwise=plan.elementwise,
        receivers=receivers if plan.applied_per_loss else "one",
        heads_apart=method.yields_coefficients and not method.weighs_task_specific,
        loss_valued=plan.losses_first,
        observes=plan.observes,
        missing=missing,
        numbers=numbers,
        micro_batches=config.micro_batches,
        recompute=config.model.recompute,
        reduce_width=_WIDTHS.get(config.reduce_dtype),
        bytes_per_pack=config.bytes_per_pack,
        clip=config.clip_norm is not None,
        why=plan.why,
    )


def classes(passes: Passes) -> Mapping[str, Passes]:
    """Every class of methods by what it is called in a table, with everything else as in `passes`; plain sum first."""
    plain = passes.plain_sum
    per_loss = dataclasses.replace(plain, way=Way.PER_LOSS)
    gramian = dataclasses.replace(per_loss, gramian=True, heads_apart=True)
    from_losses = dataclasses.replace(plain, loss_valued=True)
    return {
        "plain sum (`fused`)": plain,
        "coefficients from the losses (`fused`)": from_losses,
        "coefficients from the losses before and after (`fused`)": dataclasses.replace(from_losses, observes=True),
        "Gramian (`per_loss`)": gramian,
        "Gramian, `update_every=10`": dataclasses.replace(gramian, full_every=10),
        "Gramian (`features`)": dataclasses.replace(gramian, way=Way.FEATURES),
        "Gramian of two half batches (`per_loss`)": dataclasses.replace(gramian, halves=True),
        "Gramian of moving averages (`per_loss`)": dataclasses.replace(gramian, moving=True),
        "element by element (`per_loss`)": dataclasses.replace(per_loss, elementwise=True),
    }
