"""`fit` of `MultiLossModel` beside that of `keras.Model`, with bounds and whether they hold, as a Markdown table.

python -m tests.benchmarks.fit --check
python -m tests.benchmarks.fit --only=fit_conv_1

Contenders take turns in rounds, each idle while another is measured. All have the same data, the same number of steps
in a call (`steps_per_execution`) and no strategy; Keras counts with or without XLA, whichever is faster.
"""

from collections.abc import Callable, Mapping, Sequence

from absl import app

from tests.benchmarks import problems, table
from tests.benchmarks.bounds import Bound, Section
from tests.benchmarks.problems import Problem
from tests.benchmarks.processes import KERAS
from tests.benchmarks.rounds import Contender, Workers
from tests.benchmarks.sections import timed

_DEVICE = "one device"
_PASSES = (1 + 2 * 3) / 3  # of three losses against one of their sum: a backward pass is twice a forward's work
_LIMITS = {"weighted": 1.05, "pcgrad": 1.1 * _PASSES}
_WORKLOADS = {"conv": (problems.convolutional(3), (1, 16)), "mlp": (problems.small(), (1, 128))}


def sections(workers: Workers) -> tuple[Section, ...]:
    """A section for each network, number of steps in a call, and kind of data."""
    return tuple(
        _section(workers, network, problem, steps, endless)
        for network, (problem, in_a_call) in _WORKLOADS.items()
        for steps in in_a_call
        for endless in (False, True)
    )


def _section(workers: Workers, network: str, problem: Problem, steps: int, endless: bool) -> Section:
    common = {"steps_per_execution": steps, "endless": endless}
    keras = {"keras": {}, "keras, XLA": {"jit_compile": True}}
    ours = {name: {"combine": name} for name in _LIMITS}
    contenders = {
        name: Contender(worker, "keras without a strategy", problem, problem.epoch, common | options)
        for worker, several in ((KERAS + _DEVICE, keras), (_DEVICE, ours))
        for name, options in several.items()
    }
    name = f"fit_{network}_{steps}{'_endless' if endless else ''}"
    data = "data without end" if endless else f"epochs of {problem.epoch} steps"
    bounds = (
        Bound(
            f"{name}_{combine}",
            f"`{combine}` / `keras.Model`, {network}, {steps} in a call, {data}",
            (combine, *keras),
            _against_the_faster(combine, tuple(keras)),
            "≤",
            limit,
        )
        for combine, limit in _LIMITS.items()
    )
    return timed(workers, name, contenders, *bounds)


def _against_the_faster(combine: str, others: Sequence[str]) -> Callable[[Mapping[str, float]], float]:
    return lambda times: times[combine] / min(times[other] for other in others)


def main(argv: Sequence[str]) -> None:
    """Prints the table; progress goes to standard error."""
    del argv
    table.check(table.run(sections))


if __name__ == "__main__":
    app.run(main)
