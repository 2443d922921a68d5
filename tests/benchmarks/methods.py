"""The first table of README.md beside this file: what a method looks at, what a step costs, results on the digits.

python -m tests.benchmarks.methods
python -m tests.benchmarks.methods --nocost --virtual_devices=2 --combine=weighted

Costs are step times relative to `sum`, measured in alternating rounds on one CPU device: two convolutions and a dense
trunk, three heads, batch 256; `reduction: fused` where a method can have it. Results are means over seeds of default
runs, each a process of its own.
"""

import sys
from collections.abc import Mapping

from absl import app, flags

from tests.benchmarks import digits, problems, processes
from tests.benchmarks.rounds import Contender, Workers
from trainer.combine.registry import METHODS, ONE_PASS, LooksAt, Method

_COMBINE = flags.DEFINE_list("combine", list(METHODS), "Combinations to run.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds; 0 leaves the results out.", lower_bound=0)
_COST = flags.DEFINE_boolean("cost", True, "Measure step times.")
_VIRTUAL_DEVICES = flags.DEFINE_integer("virtual_devices", None, "Passed on to the runs.", lower_bound=1)

_COLUMNS = {"digit accuracy": "digit/accuracy", "redraw error": "redraw/mae", "ink error": "ink/mae"}
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
    workers = Workers(
        lambda name: processes.start_worker(name, sys.executable), lambda line: print(line, file=sys.stderr)
    )
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


def _row(name: str, cost: float | None, results: list[dict[str, float]]) -> str:
    method = METHODS[name]
    title = f"{method.summary} ([{method.paper[0]}]({method.paper[1]}))" if method.paper else method.summary
    cells = [f"`{name}`", title, _LOOKS_AT[method.looks_at], "" if cost is None else f"{cost:.2f}"]
    if results:
        means = {key: sum(values[key] for values in results) / len(results) for key in _COLUMNS.values()}
        cells += [f"{100 * means['digit/accuracy']:.2f} %", f"{means['redraw/mae']:.4f}", f"{means['ink/mae']:.4f}"]
    return f"| {' | '.join(cells)} |"


def main(argv: list[str]) -> None:
    """Prints the table in Markdown, a row as soon as it is known."""
    del argv
    for name in _COMBINE.value:
        if name not in METHODS:
            raise app.UsageError(f"--combine={name} must be among {', '.join(METHODS)}")
    measured = costs(_COMBINE.value) if _COST.value else {}
    columns = list(_COLUMNS) if _SEEDS.value else []
    print(f"| `--combine` | gradient of a shared variable | looks at | cost |{''.join(f' {c} |' for c in columns)}")
    print(f"| --- | --- | --- | ---: |{' ---: |' * len(columns)}", flush=True)
    for name in _COMBINE.value:
        results = [digits.run(name, seed, _VIRTUAL_DEVICES.value) for seed in range(_SEEDS.value)]
        print(_row(name, measured.get(name), results), flush=True)


if __name__ == "__main__":
    app.run(main)
