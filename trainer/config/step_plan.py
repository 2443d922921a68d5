"""The plan by which the steps of a configuration are computed. Needs no TensorFlow."""

import dataclasses
import enum

PROBE_EVERY, UPDATE_EVERY = "probe_every", "combine.update_every"


class Way(enum.Enum):
    """The ways to compute the gradients of a step."""

    PER_LOSS = "a backward pass for every loss"
    FUSED = "one backward pass, of the losses' weighted sum"
    FEATURES = "a backward pass for every loss down to the trunk's output, and one through the trunk"


class View(enum.Enum):
    """The gradients that a method looks at and mixes."""

    WHOLE_BATCH = "those over the whole batch"
    TWO_HALVES = "those over each half of the batch"
    MOVING_AVERAGES = "their moving averages over the steps"


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """The plan by which the steps of a configuration are computed.

    Attributes:
      way: of all steps; where two ways alternate, of those in which the method finds its coefficients or gradients
        are measured (never `FUSED` then).
      between: of the steps between those, where two ways alternate (always `FUSED`); else None.
      every: where two ways alternate, the setting that says how often `way` is due: "probe_every" (in between the
        method finds its coefficients as well, nothing is measured) or "combine.update_every" (in between the
        coefficients hold that were found last); else None.
      view: the gradients that the method looks at and mixes.
      applied_per_loss: each loss's own optimizer applies that loss's mixed gradients; otherwise their sum is applied.
      gramian: the method looks at inner products of gradients, over all shared variables or each on its own.
      elementwise: the method combines gradients element by element.
      losses_first: a fused pass needs the losses' values over all replicas before it begins.
      observes: the losses of the same batch are computed once more after the update.
      why: the reason for the reduction, where the configuration leaves that to the plan; else empty.
    """

    way: Way
    between: Way | None
    every: str | None
    view: View
    applied_per_loss: bool
    gramian: bool
    elementwise: bool
    losses_first: bool
    observes: bool
    why: str = ""

    @property
    def probes(self) -> bool:
        """True where all steps could be fused, and those per loss are there to measure gradient norms and cosines."""
        return self.every == PROBE_EVERY

    @property
    def keeps_coefficients(self) -> bool:
        """True where the method's coefficients hold for several steps, so that later ones read them."""
        return self.every == UPDATE_EVERY

    @property
    def keeps_every_row(self) -> bool:
        """True where most steps hold the gradient of every loss that reaches a variable."""
        return not self.probes and self.way is Way.PER_LOSS

    def passes(self, losses: int, every: int) -> str:
        """Returns the backward passes of a step with `losses` losses in words, without steps that only measure.

        Where coefficients are kept, they are found in every `every`-th step.
        """
        if self.probes or self.way is Way.FUSED:
            return _passes(1)
        if self.way is Way.FEATURES:
            words = f"{_passes(losses)} through the heads, 1 through the trunk"
        else:
            words = _passes(losses * (2 if self.view is View.TWO_HALVES else 1))
        return f"{words}, in {every - 1} of {every} steps 1" if self.keeps_coefficients else words

    def sums_first(self, *, labels_can_be_missing: bool) -> bool:
        """True where a fused pass needs sums over all replicas before it begins: label counts or losses' values."""
        return labels_can_be_missing or self.losses_first


def _passes(count: int) -> str:
    return "1 pass" if count == 1 else f"{count} passes"
