"""The cost of a step in words: operations, bytes reduced, collectives."""

from collections.abc import Callable, Sequence

from trainer.cost.passes import Passes
from trainer.cost.steps import StepCost, average, steps
from trainer.cost.workload import Workload


def lines(workload: Workload, passes: Passes) -> list[str]:
    """Operations per example, and what a step reduces across replicas, as means over all steps.

    Steps in which a run measures more than it needs to train are left out.
    """
    kinds = steps(workload, passes)

    def mean(quantity: Callable[[StepCost], float]) -> float:
        return average(kinds, quantity)

    per_example = (mean(lambda cost: cost.forward), mean(lambda cost: cost.backward))
    forward, backward = (_operations(count / workload.examples) for count in per_example)
    combine = _operations(mean(lambda cost: cost.combine + cost.float64 + cost.update))
    reduced, collectives = mean(lambda cost: cost.reduced), mean(lambda cost: cost.collectives)
    found = [
        f"Operations per example: forward {forward}, backward {backward}; "
        f"per step: combining and applying gradients {combine}.",
        f"Reduced per step, by each of several replicas: {_bytes(reduced)} in {_collectives(collectives)}.",
    ]
    if workload.statistics:
        of_statistics = mean(lambda cost: len(cost.statistics)), mean(lambda cost: sum(cost.statistics))
        found.append(
            f"Of these, synchronized batch statistics: {_collectives(of_statistics[0])}, "
            f"{_bytes(of_statistics[1])} together; the passes wait for each."
        )
    return found


def _operations(count: float) -> str:
    return _scaled(count, ("", "k", "M", "G", "T"))


def _bytes(count: float) -> str:
    return f"{_scaled(count, ('', 'k', 'M', 'G'))}B"


def _collectives(count: float) -> str:
    return f"{_number(count)} collective{'' if count == 1 else 's'}"


def _scaled(value: float, prefixes: Sequence[str]) -> str:
    """A value with the largest prefix that leaves it at least 1."""
    for prefix in prefixes[:-1]:
        if value < 999.5:
            return f"{_number(value)} {prefix}"
        value /= 1000
    return f"{_number(value)} {prefixes[-1]}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or value >= 100 else f"{value:.3g}"
