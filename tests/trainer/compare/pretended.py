"""Processes of a cell that do not train: a launcher for this process, and a program for others.

The program: python -m tests.trainer.compare.pretended. What becomes of a run is said by the learning rate of its
configuration, which is one of `ENDS`, or another one, with which it ends as it should.
"""

import json
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from trainer.compare import cell_process
from trainer.compare.messages import Event, Request, RunRequest
from trainer.config import loading

KILLED, LEFT, ASLEEP = ENDS = (0.5, 0.25, 0.125)
STEPS = 40


def train(run: RunRequest, base: pathlib.Path, say: Callable[[Event], None]) -> None:
    """Writes the directory of a run that has ended, with a loss that its method and its seed decide."""
    say(Event("started", run.seed))
    path = base / run.path
    path.mkdir(parents=True, exist_ok=True)
    config = loading.resolve(run.config)
    loading.save(config, path / "config.json")
    loss = len(config.combine.name) + run.seed / 10
    values = {f"loss/{name}": loss for name in config.losses}
    lines = ({"step": step, "split": "validation", **values} for step in (STEPS // 2, STEPS))
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    say(Event("report", run.seed, STEPS, STEPS, "validation", values))
    (path / "report.md").write_text(f"# Validation after {STEPS} steps\n")
    say(Event("done", run.seed))


class Launcher:
    """Pretends to train in this process.

    Args:
      failing: (method, seed) of runs that fail.

    Attributes:
      trained: (method, seed) of runs that were asked for, in their order.
      timed: methods that were timed.
    """

    def __init__(self, failing: Collection[tuple[str, int]] = ()):
        self._failing = failing
        self.trained: list[tuple[str, int]] = []
        self.timed: list[str] = []

    def __call__(
        self, request: Request, log: pathlib.Path, base: pathlib.Path, stopping: Any, take: Callable[[Event], None]
    ) -> int:
        for run in request.runs:
            method = run.config["combine"]["name"]
            if request.timed_steps:
                self.timed.append(method)
                take(Event("timed", values={"seconds_per_step": 0.5, "memory": 100, "device": "CPU"}))
                continue
            self.trained.append((method, run.seed))
            if (method, run.seed) in self._failing:
                take(Event("started", run.seed))
                take(Event("failed", run.seed, reason="step 3: loss became non-finite"))
            else:
                train(run, base, take)
        return 0


def main() -> None:
    request = Request.of_json(sys.stdin.buffer.readline())
    threading.Thread(target=cell_process.end_with_the_parent, daemon=True).start()
    with open(request.events, "w") as file:

        def say(event: Event) -> None:
            print(event.to_json(), file=file, flush=True)

        for run in request.runs:
            rate = run.config["optimizer"]["learning_rate"]
            if rate in ENDS:
                say(Event("started", run.seed))
                print("about to end")
            if rate == KILLED:
                os.kill(os.getpid(), signal.SIGKILL)
            if rate == LEFT:
                sys.exit(3)
            if rate == ASLEEP:
                signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # as while it saves
                pathlib.Path(run.path).write_text(str(os.getpid()))
                time.sleep(60)
            train(run, pathlib.Path(), say)


if __name__ == "__main__":
    main()
