"""The values of a report, and the reason why a step could not be taken, both read from the totals."""

from collections.abc import Sequence
from typing import NamedTuple

from trainer.combine.combination import Combination
from trainer.combine.entry import Method
from trainer.step.values import Measurement, Totals


class Failure(NamedTuple):
    """A step that could not be taken, and changed no variable.

    Attributes:
      step: its number, counted from 1.
      losses: the losses that could not be used, with their values.
      bounds: what the combination needs each of these to be above; None: they need only be finite.
    """

    step: int
    losses: dict[str, float]
    bounds: dict[str, float] | None


def values(totals: Totals, names: Sequence[str], *, sharing: bool, method: Method) -> dict[str, float | None]:
    """Reads the totals of the steps since the last report: the one copy from the devices.

    Args:
      totals: the totals.
      names: of the K losses.
      sharing: whether any variable is shared; there are no cosines and coefficients where none is.
      method: the combination method.

    Returns:
      `loss/<loss>`: mean over the steps since the last report in which the loss was active; `grad_norm/<loss>`: of the
      last step that measured it, absent where none has; `cosine/<loss>/<loss>`: mean over the steps since the last
      report that have it, absent where no pair has one in any step; `coefficient/<loss>` of the step of the norms, for
      methods that find some; `fallbacks`, the number of steps since the last report in which the method's problem had
      no solution, for methods that can meet such problems.
    """
    sums, counts = totals.losses.numpy(), totals.counts.numpy()
    found = {f"loss/{name}": float(sums[k] / counts[k]) if counts[k] else None for k, name in enumerate(names)}
    measured = bool(totals.measured.measured)
    if measured:
        found |= _norms(totals.measured, names)
    if sharing:
        cosines = _cosines(totals, names)
        found |= cosines if measured or any(value is not None for value in cosines.values()) else {}
    if sharing and measured and method.finds_coefficients:
        found |= _coefficients(totals.measured, names)
    if method.may_fall_back:
        found["fallbacks"] = int(totals.fallbacks)
    return found


def failure(totals: Totals, names: Sequence[str], combination: Combination) -> Failure | None:
    """The first step since the last report that could not be taken; None where there is none."""
    failed = int(totals.failed_step)
    if failed < 0:
        return None
    wrong, losses, bounds = totals.failed.numpy(), totals.failed_losses.numpy(), combination.lower_bounds
    failing = [k for k in range(len(names)) if wrong[k]]
    return Failure(
        failed + 1,
        {names[k]: float(losses[k]) for k in failing},
        None if bounds is None else {names[k]: float(bounds[k]) for k in failing},
    )


def _coefficients(step: Measurement, names: Sequence[str]) -> dict[str, float | None]:
    active, coefficients = step.active.numpy(), step.coefficients.numpy()
    return {f"coefficient/{name}": float(coefficients[k]) if active[k] else None for k, name in enumerate(names)}


def _norms(step: Measurement, names: Sequence[str]) -> dict[str, float | None]:
    active, norms = step.active.numpy(), step.grad_norms.numpy()
    return {f"grad_norm/{name}": float(norms[k]) if active[k] else None for k, name in enumerate(names)}


def _cosines(totals: Totals, names: Sequence[str]) -> dict[str, float | None]:
    sums, counts = totals.cosine_sums.numpy(), totals.cosine_counts.numpy()
    return {
        f"cosine/{first}/{names[k]}": float(sums[j, k] / counts[j, k]) if counts[j, k] else None
        for j, first in enumerate(names)
        for k in range(j + 1, len(names))
    }
