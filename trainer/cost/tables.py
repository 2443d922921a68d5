"""Predictions as tables. Needs no TensorFlow."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table as RichTable

from trainer.config.plan import Way
from trainer.cost import passes as passes_lib
from trainer.cost.machine import Machine, Seconds
from trainer.cost.passes import Passes
from trainer.cost.steps import StepCost, average, steps
from trainer.cost.workload import Workload


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as text; the first column is read, the others are numbers.

    Attributes:
      title: what it is of.
      headings: one for each column.
      rows: the cells.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def for_terminal(self) -> RichTable:
        """The table as rich prints it."""
        table = RichTable(title=escape(self.title), title_justify="left", box=box.SIMPLE_HEAD)
        for index, heading in enumerate(self.headings):
            table.add_column(escape(heading), justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """The table in Markdown, without its title."""
        lines = [self.headings, ("---", *["---:"] * (len(self.headings) - 1)), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def prediction(workload: Workload, passes: Passes, machine: Machine, replicas: Sequence[int]) -> Table:
    """One configuration's steps: a row for every quantity, a column for every number of replicas."""
    kinds = steps(workload, passes)
    plain = steps(workload, passes.plain_sum)

    def counted(quantity: Callable[[StepCost], float], unit: float) -> list[str]:
        return [_number(average(kinds, quantity) / unit)] * len(replicas)

    def milliseconds(part: Callable[[Seconds], float], n: int) -> float:
        return 1e3 * average(kinds, lambda cost: part(machine.step_seconds(cost, n)))

    def timed(part: Callable[[Seconds], float]) -> list[str]:
        return [_number(milliseconds(part, n)) for n in replicas]

    rows = {
        "examples per replica": [f"{workload.examples:,}"] * len(replicas),
        "forward, GFLOP": counted(lambda cost: cost.forward, 1e9),
        "backward, GFLOP": counted(lambda cost: cost.backward, 1e9),
        "combine and update, GFLOP": counted(lambda cost: cost.combine + cost.float64 + cost.update, 1e9),
        "reduced, MB": [_number(_reduced(kinds, n) / 1e6) if n > 1 else "0" for n in replicas],
        "gradients held, MB": [_number(max(cost.held for _, cost in kinds) / 1e6)] * len(replicas),
        "forward and backward, ms": timed(lambda seconds: seconds.compute),
        "combine and update, ms": timed(lambda seconds: seconds.combine),
        "reduce, ms": timed(lambda seconds: seconds.reduce),
        "step, ms": timed(lambda seconds: seconds.step),
        "step if reducing overlaps, ms": timed(lambda seconds: seconds.overlapped),
        "examples per second": [_number(n * workload.examples / _mean_step(kinds, machine, n)) for n in replicas],
        "step, of the plain sum's": [
            f"{_mean_step(kinds, machine, n) / _mean_step(plain, machine, n):.2f}" for n in replicas
        ],
    }
    headings = ("", *(f"{n} replica{'s' * (n > 1)}" for n in replicas))
    return Table(_title(workload, passes), headings, tuple((name, *cells) for name, cells in rows.items()))


def comparison(workloads: Iterable[Workload], passes: Passes, machine: Machine, replicas: Sequence[int]) -> Table:
    """Every class of methods: a row for each and for each workload, times as multiples of the plain sum's."""
    rows = []
    for workload in workloads:
        plain = steps(workload, passes.plain_sum)
        for name, own in passes_lib.classes(passes).items():
            kinds = steps(workload, own)
            operations = average(kinds, _operations) / average(plain, _operations)
            times = [
                f"{1e3 * _mean_step(kinds, machine, n):.1f} ms"
                if own == passes.plain_sum
                else f"{_mean_step(kinds, machine, n) / _mean_step(plain, machine, n):.2f}"
                for n in replicas
            ]
            held = max(cost.held for _, cost in kinds)
            reduced = _number(_reduced(kinds, max(replicas)) / 1e6)
            cells = (f"{operations:.2f}", reduced, _number(held / 1e6), *times)
            rows.append((name, str(workload.losses), *cells))
    headings = ("method", "K", "operations", "reduced, MB", "gradients, MB", *(f"{n} replicas" for n in replicas))
    return Table("Operations and step times as multiples of the plain sum's", headings, tuple(rows))


def _title(workload: Workload, passes: Passes) -> str:
    k = workload.losses
    per_loss = k * (2 if passes.halves else 1)
    words = {
        Way.PER_LOSS: f"{per_loss} backward pass{'es' * (per_loss > 1)}",
        Way.FUSED: "one backward pass",
        Way.FEATURES: f"{k} backward pass{'es' * (k > 1)} through the heads and one through the trunk",
    }
    between = f" in one of {passes.full_every} steps, one in each of the others" if passes.full_every > 1 else ""
    shared = sum(variable.size for variable in workload.shared)
    why = f" (chosen by reduction='auto': {passes.why})" if passes.why else ""
    return f"K = {k}, {workload.size:,} parameters ({shared:,} shared): {words[passes.way]}{between}{why}"


def _mean_step(kinds: Iterable[tuple[float, StepCost]], machine: Machine, replicas: int) -> float:
    return average(kinds, lambda cost: machine.step_seconds(cost, replicas).step)


def _reduced(kinds: Iterable[tuple[float, StepCost]], replicas: int) -> float:
    return average(kinds, lambda cost: cost.reduced_on(replicas))


def _operations(cost: StepCost) -> float:
    return cost.operations


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
