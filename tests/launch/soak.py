"""Kills, stops and signals workers again and again and compares the run with an uninterrupted one, bit for bit.

python -m tests.launch.soak --strikes=20 --steps=200
"""

import argparse
import contextlib
import dataclasses
import pathlib
import random
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence

from tests import problems
from tests.launch.launched import Launched, train, write_config
from tests.properties.interrupted import results

# The optimizer of what is shared has a state; the others' are restored in tests/properties.
CHANGES = problems.SIMPLE | {
    "shared_optimizer": {"name": "adam", "learning_rate": 0.01},
    "dataset__options": {"missing": True},
    "combine__name": "famo",
    "report_every": 1,
    "eval_every": 50,
    "checkpoint_every": 2,
    "keep_checkpoints": 3,
    "steps_per_loop": 1,
}
_MOST_SECONDS = 15  # until a fault is reported
_KINDS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
_TOLD = {
    signal.SIGKILL: "worker {} was killed by SIGKILL",
    signal.SIGSTOP: r"lost worker {} \(127.0.0.1:\d+\): not answering",
    signal.SIGTERM: r"stopped by SIGTERM; step \d+ is saved",
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """A signal to one worker, or to several of them at once."""

    number: signal.Signals
    ranks: tuple[int, ...]

    @property
    def told(self) -> str:
        """The line that says so."""
        return _TOLD[self.number].format(self.ranks[0] if len(self.ranks) == 1 else r"\d")

    def __str__(self) -> str:
        return f"{self.number.name} to worker {', '.join(map(str, self.ranks))}"


def run(
    directory: pathlib.Path, root: pathlib.Path, *, workers: int, faults: Sequence[Fault], steps: int, seed: int
) -> None:
    """The run `struck` in `directory` of the problem with `CHANGES`, with these faults at random steps.

    Args:
      directory: where the run is to be.
      root: the project.
      workers: how many there are.
      faults: in this order.
      steps: length of the run.
      seed: of the steps.
    """
    write_config(directory / "config.py", **CHANGES, steps=steps)
    print(f"seed {seed}", flush=True)
    moments = sorted(random.Random(seed).sample(range(1, steps - 5), len(faults)))
    failures = sum(fault.number != signal.SIGTERM for fault in faults)
    launcher = (f"--max_restarts={failures}",)
    with Launched(root, directory, workers, launcher=launcher, trainer=("--workdir=struck",)) as launched:
        seen = counted = 0
        for index, (step, fault) in enumerate(zip(moments, faults, strict=True)):
            counted += fault.number != signal.SIGTERM
            with _named(f"fault {index + 1}, {fault}, from step {step}"):
                seen = launched.wait_for(rf"step +({'|'.join(map(str, range(step, steps + 1)))})/", since=seen)
                struck = launched.strike(fault.number, list(fault.ranks))
                told = launched.wait_for(fault.told, since=seen)
                noticed = launched.when(fault.told, since=seen) - struck
                assert noticed < _MOST_SECONDS, launched.output
                how = "after a preemption" if fault.number == signal.SIGTERM else f"{counted} of {failures}"
                seen = launched.wait_for(rf"\brestart {how}", since=told - 1)
                seen = launched.wait_for(r"steps on \d+ CPU", since=seen)
                back = time.monotonic() - struck
            print(f"step {step:>4}: {fault}: noticed after {noticed:.1f} s, back after {back:.1f} s", flush=True)
        assert launched.wait(limit=300) == 0, launched.output
        assert not launched.left()


@contextlib.contextmanager
def _named(fault: str) -> Iterator[None]:
    """A failure within says which fault it came of."""
    try:
        yield
    except AssertionError as error:
        error.add_note(fault)
        raise


def _drawn(draw: random.Random, workers: int) -> Fault:
    kind, rank = draw.choice(_KINDS), draw.randrange(workers)
    everyone = kind == signal.SIGKILL and draw.random() < 0.25
    return Fault(kind, tuple(range(workers)) if everyone else (rank,))


def main() -> None:
    """Runs it in a temporary directory, beside an uninterrupted run, and says so where all bits are the same."""
    parser = argparse.ArgumentParser()  # tests import this module beside others that define flags
    parser.add_argument("--strikes", type=int, default=20, help="how often")
    parser.add_argument("--steps", type=int, default=200, help="length of the run")
    parser.add_argument("--workers", type=int, default=3, help="how many workers")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of who is struck when, and how")
    given = parser.parse_args()
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    workers, steps, draw = given.workers, given.steps, random.Random(given.seed)
    faults = [_drawn(draw, workers) for _ in range(given.strikes)]
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        train(root, directory, workers, {"whole": CHANGES | {"steps": steps}})
        run(directory, root, workers=workers, faults=faults, steps=steps, seed=given.seed)
        assert results(directory / "struck", steps) == results(directory / "whole", steps)
    print("the struck run and the uninterrupted one hold the same bits")


if __name__ == "__main__":
    main()
