"""The cost of a step in words: operations, bytes reduced, collectives."""

from collections.abc import Callable

from trainer.cost.passes import Passes
from trainer.cost.steps import StepCost, average, steps
from trainer.cost.workload import Workload


def lines(workload: Workload, passes: Passes) -> list[str]:
    """Lines with the operations per example and what a step reduces across replicas, means over all steps.

    Steps in which a run measures more than it needs to train are left out.
    """
    kinds = steps(workload, passes)

    def mean(quantity: Callable[[StepCost], float]) -> float:
        return average(kinds, quantity)

    per_example = (mean(lambda cost: cost.forward), mean(lambda cost: cost.backward))
    forward, backward = (_scaled(count / workload.examples) for count in per_example)
    combine = _scaled(mean(lambda cost: cost.combine + cost.float64 + cost.update))
    reduced = mean(lambda cost: cost.reduced)
    collectives = mean(lambda cost: cost.collectives - len(cost.gathered))
    found = [
        f"Operations per example: forward {forward}, backward {backward}; "
        f"per step: combining and applying gradients {combine}.",
        f"Reduced per step, by each of several replicas: {_scaled(reduced, 'B')} in {_collectives(collectives)}.",
    ]
    if workload.statistics:
        of_statistics = mean(lambda cost: len(cost.statistics)), mean(lambda cost: sum(cost.statistics))
        found.append(
            f"Of these, synchronized batch statistics: {_collectives(of_statistics[0])}, "
            f"{_scaled(of_statistics[1], 'B')} together; the passes wait for each."
        )
    if workload.gathered:
        of_rows = mean(lambda cost: len(cost.gathered)), mean(lambda cost: sum(cost.gathered))
        found.append(
            f"Besides, examples gathered for losses over the global batch: {_collectives(of_rows[0])}, "
            f"{_scaled(of_rows[1], 'B')} of each replica's examples."
        )
    return found


def _collectives(count: float) -> str:
    return f"{_number(count)} collective{'' if count == 1 else 's'}"


def _scaled(value: float, unit: str = "") -> str:
    """A value with the prefix that leaves it between 1 and 1000."""
    for prefix in ("", "k", "M", "G"):
        if value < 999.5:
            return f"{_number(value)} {prefix}{unit}".rstrip()
        value /= 1000
    return f"{_number(value)} T{unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or value >= 100 else f"{value:.3g}"
