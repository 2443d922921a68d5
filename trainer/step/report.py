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
      `loss/<loss>`: mean over the steps since the last report in which the loss was active; `grad_norm/<loss>` and
      `cosine/<loss>/<loss>`: of the last step that measured them, absent where none has; `coefficient/<loss>` of that
      step, for methods that find some; `fallbacks`, the number of steps since the last report in which the method's
      problem had no solution, for methods that can meet such problems.
    """
    sums, counts = totals.losses.numpy(), totals.counts.numpy()
    found = {f"loss/{name}": float(sums[k] / counts[k]) if counts[k] else None for k, name in enumerate(names)}
    if bool(totals.measured.measured):
        found |= _norms_and_cosines(totals.measured, names, sharing=sharing)
        if sharing and method.finds_coefficients:
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


def _norms_and_cosines(step: Measurement, names: Sequence[str], *, sharing: bool) -> dict[str, float | None]:
    active, norms, cosines = step.active.numpy(), step.grad_norms.numpy(), step.cosines.numpy()
    found = {f"grad_norm/{name}": float(norms[k]) if active[k] else None for k, name in enumerate(names)}
    for j, first in enumerate(names if sharing else ()):
        for k, second in enumerate(names[j + 1 :], start=j + 1):
            known = cosines[j, j] > 0 and cosines[k, k] > 0
            found[f"cosine/{first}/{second}"] = float(cosines[j, k]) if known else None
    return found
