"""Kills, stops and signals workers again and again and compares the run with an uninterrupted one, bit for bit.

python -m tests.launch.soak --strikes=20 --steps=200
"""

import pathlib
import random
import signal
import tempfile
import time
from collections.abc import Sequence

from absl import app, flags

from tests.launch.launched import Launched, train, write_config

_STRIKES = flags.DEFINE_integer("strikes", 20, "How often.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 200, "Length of the run.", lower_bound=10)
_WORKERS = flags.DEFINE_integer("workers", 3, "How many workers.", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", None, "Of who is struck when, and how; default another one each time.")

_KINDS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
CHANGES = {
    "dataset__options": {"missing": True},
    "combine__name": "famo",
    "report_every": 1,
    "eval_every": 50,
    "checkpoint_every": 2,
    "keep_checkpoints": 3,
    "steps_per_loop": 1,
}


def run(directory: pathlib.Path, root: pathlib.Path, *, workers: int, strikes: int, steps: int, seed: int) -> None:
    """Strikes so often, at random steps, a run of the problem with `CHANGES`, `struck` in `directory`.

    Args:
      directory: where the run is to be.
      root: the project.
      workers: how many there are.
      strikes: how often one of them, or all, are struck.
      steps: length of the run.
      seed: of who is struck when, and how.
    """
    draw = random.Random(seed)
    write_config(directory / "config.py", **CHANGES, steps=steps)
    print(f"seed {seed}", flush=True)
    moments = sorted(draw.sample(range(1, steps - 5), strikes))
    restarts = (f"--max_restarts={strikes}",)
    with Launched(root, directory, workers, launcher=restarts, trainer=("--workdir=struck",)) as launched:
        seen = 0
        for step in moments:
            seen = launched.wait_for(rf"step +({'|'.join(map(str, range(step, steps + 1)))})/", since=seen)
            kind, ranks = draw.choice(_KINDS), [draw.randrange(workers)]
            if kind == signal.SIGKILL and draw.random() < 0.25:
                ranks = list(range(workers))
            struck = launched.strike(kind, ranks)
            seen = launched.wait_for(r"\brestart ", since=seen)
            noticed = time.monotonic() - struck
            seen = launched.wait_for(r"steps on \d+ CPU", since=seen)
            back = time.monotonic() - struck
            who = "all" if len(ranks) > 1 else f"worker {ranks[0]}"
            print(
                f"step {step:>4}: {kind.name} to {who}: noticed after {noticed:.1f} s, back after {back:.1f} s",
                flush=True,
            )
        assert launched.wait(limit=300) == 0, launched.output
        assert not launched.left()


def main(argv: Sequence[str]) -> None:
    """Runs it in a temporary directory, beside an uninterrupted run, and says so where all bits are the same."""
    del argv
    from tests.trainer.test_resume import results  # needs TensorFlow

    seed = random.randrange(10**6) if _SEED.value is None else _SEED.value
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    workers, steps = _WORKERS.value, _STEPS.value
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        train(root, directory, workers, {"whole": CHANGES | {"steps": steps}})
        run(directory, root, workers=workers, strikes=_STRIKES.value, steps=steps, seed=seed)
        assert results(directory / "struck", steps) == results(directory / "whole", steps)
    print("the struck run and the uninterrupted one hold the same bits")


if __name__ == "__main__":
    app.run(main)
