"""The table of all methods of README.md beside this file: what each looks at, and what a step with it costs.

python -m tests.benchmarks.methods
python -m tests.benchmarks.methods --combine=pcgrad,upgrad

Costs are step times relative to `sum`, measured in alternating rounds on one CPU device: two convolutions and a dense
trunk, three heads, batch 256; `reduction: fused` where a method can have it.
"""

import sys
from collections.abc import Mapping

from absl import app, flags

from tests.benchmarks import problems, processes
from tests.benchmarks.rounds import Contender, Workers
from trainer.combine.registry import METHODS, ONE_PASS, LooksAt, Method

_COMBINE = flags.DEFINE_list("combine", list(METHODS), "Combinations to run.")

_LOOKS_AT = {
    LooksAt.NOTHING: "nothing",
    LooksAt.LOSSES: "loss values",
    LooksAt.GRAMIAN: "Gramian",
    LooksAt.CROSS_GRAMIAN: "Gramian of two half batches",
    LooksAt.MOVING_GRAMIAN: "Gramian of moving averages",
    LooksAt.ELEMENTS: "elements",
}
_STEPS = 20


def costs(names: list[str]) -> Mapping[str, float]:
    """Step times of methods as multiples of that of `sum`."""
    contenders = {name: _contender(name, METHODS[name]) for name in dict.fromkeys(["sum", *names])}
    workers = Workers(lambda name: processes.start_worker(name, {}), lambda line: print(line, file=sys.stderr))
    try:
        times = workers.step_times("methods", contenders)
    finally:
        workers.close()
    for time_ in times.values():
        if isinstance(time_, Exception):
            raise time_
    return {name: times[name] / times["sum"] for name in names}


def _contender(name: str, method: Method) -> Contender:
    fused = {"reduction": "fused"} if method.looks_at in ONE_PASS and not method.per_loss else {}
    options = {"per_call": _STEPS, "combine": {"name": name}, **fused}
    return Contender("one device", "ours", problems.convolutional(3), _STEPS, options)


def _row(name: str, cost: float) -> str:
    method = METHODS[name]
    title = f"{method.summary} ([{method.paper[0]}]({method.paper[1]}))" if method.paper else method.summary
    return f"| `{name}` | {title} | {_LOOKS_AT[method.looks_at]} | {cost:.2f} |"


def main(argv: list[str]) -> None:
    """Prints the table in Markdown."""
    del argv
    for name in _COMBINE.value:
        if name not in METHODS:
            raise app.UsageError(f"--combine={name} must be among {', '.join(METHODS)}")
    measured = costs(_COMBINE.value)
    print("| `--combine` | gradient of a shared variable | looks at | cost |\n| --- | --- | --- | ---: |")
    for name in _COMBINE.value:
        print(_row(name, measured[name]))


if __name__ == "__main__":
    app.run(main)
