"""Final points of the toy problem (`configs/toy_problem.py`) from each start, by combination, against its Pareto set.

python -m tests.benchmarks.toy_problem
python -m tests.benchmarks.toy_problem --steps=100000 --combine=sum,mgda,famo --write
python -m tests.benchmarks.toy_problem --picture=.github/toy_problem.png

2,000 steps from each of three starts take four seconds for most combinations, 100,000 two minutes. `--write` puts final
points into `toy_problem.json` and, of 100,000 steps, paths into `toy_problem_paths.json`. A test compares a short run
with the former, and the picture shows the latter. Combinations that take logarithms of the losses, which are negative
here, or need three are left out.
"""

import time
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from configs.toy_problem import STARTS
from tests.benchmarks import toy_problem_plot, toy_problem_runs
from tests.benchmarks.toy_problem_runs import LEFT_OUT, METHODS, Run
from trainer.distributed import strategy as strategy_lib

# What the papers show and, in the last row, what came later or is seldom compared.
_PANELS = ["sum", "mgda", "pcgrad", "cagrad", "imtl_g", "nash_mtl", "fair_grad", "famo"]
_PANELS += ["aligned_mtl", "dual_proj", "upgrad", "config"]
_POINTS = 400  # of a path

_STEPS = flags.DEFINE_integer("steps", toy_problem_runs.SHORT, "Steps from each start.", lower_bound=1)
_COMBINE = flags.DEFINE_list("combine", list(METHODS), "Combinations to run.")
_WRITE = flags.DEFINE_bool("write", False, "Put the results into the committed ones.")
_PICTURE = flags.DEFINE_string("picture", None, "Run nothing; draw committed paths into this file instead.")
_DRAWN = flags.DEFINE_list("drawn", _PANELS, "Combinations in the picture.")


def row(combine: str, paths: Sequence[np.ndarray], seconds: float) -> str:
    """A row of the table; final points on the Pareto set are bold."""
    reached = [toy_problem_runs.reaches(path[-1]) for path in paths]
    cells = [f"({x1:.2f}, {x2:.2f})" for x1, x2 in (path[-1] for path in paths)]
    points = " | ".join(f"**{cell}**" if there else cell for cell, there in zip(cells, reached, strict=True))
    return f"| `{combine}` | {sum(reached)} | {points} | {seconds:.0f} |"


def main(argv: Sequence[str]) -> None:
    """Prints the table in Markdown, a row as soon as it is known; or draws the picture."""
    del argv
    for combine in _COMBINE.value:
        if combine not in METHODS:
            reason = LEFT_OUT.get(combine, f"is none of {', '.join(METHODS)}")
            raise app.UsageError(f"--combine={combine}: {combine} {reason}")
    if _PICTURE.value is not None:
        toy_problem_plot.save(_DRAWN.value, _PICTURE.value)
        return
    strategy = strategy_lib.build("one_device")
    starts = " | ".join(f"from ({x1:g}, {x2:g})" for x1, x2 in STARTS)
    print(f"| `--combine` | reached from | {starts} | seconds |\n| --- | ---: |{' --- |' * len(STARTS)} ---: |")
    for combine in _COMBINE.value:
        begin = time.monotonic()
        run = Run(combine, strategy)
        paths = [run.path(start, _STEPS.value, min(_POINTS, _STEPS.value)) for start in STARTS]
        print(row(combine, paths, time.monotonic() - begin), flush=True)
        if _WRITE.value:
            toy_problem_runs.commit(combine, _STEPS.value, paths)


if __name__ == "__main__":
    app.run(main)
