"""Runs checks in step with the other workers, and ends the process where one of them hangs."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from trainer import command_line
from trainer.common.errors import reason_of
from trainer.selfcheck.outcome import CheckOutcome, Status, merged, of_json

if TYPE_CHECKING:
    from trainer.selfcheck.exchange import Exchange

Check = Callable[[], CheckOutcome]

_PATIENCE = 15  # seconds that workers wait for each other once one of them has failed
_OUT_OF_STEP = "the workers are no longer in step"
_WIDTH = max(map(len, Status))


def run(checks: dict[str, Check], exchange: "Exchange", *, start: float, seconds: float) -> int:
    """Runs checks in step with the other workers, and prints a line for each on the first of them.

    A check that raises on one worker only leaves the others waiting in a collective: what is left is skipped then.

    Args:
      checks: by name.
      exchange: between the workers.
      start: when the program began, for the last line.
      seconds: that each check may take.

    Returns:
      The exit code: 1 where a check failed on any worker.
    """
    counts: Counter[Status] = Counter()
    in_step = True
    for index, (name, check) in enumerate(checks.items()):
        if in_step:
            outcome, in_step = _in_step(name, check, f"check{index}", exchange, seconds)
        else:
            outcome = CheckOutcome(Status.SKIPPED, _OUT_OF_STEP)
        counts[outcome.status] += 1
        if exchange.rank == 0:
            print(_line(outcome.status, name, outcome.text), flush=True)
    if exchange.rank == 0:
        summary = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
        print(f"{summary}; {time.monotonic() - start:.0f} s", flush=True)
    code = 1 if counts[Status.FAILED] else 0
    if in_step:
        exchange.part(_PATIENCE)
    return code


def _in_step(name: str, check: Check, key: str, exchange: "Exchange", seconds: float) -> tuple[CheckOutcome, bool]:
    """Runs a check; returns the outcome of all workers, and whether all of them are through with the check."""
    with _Watch(name, seconds, exchange, key):
        try:
            own, patience = check(), seconds
        except Exception as error:
            own, patience = CheckOutcome(Status.FAILED, f"{type(error).__name__}: {reason_of(error)}"), _PATIENCE
            exchange.alarm(key, own.text)
            if exchange.rank:
                print(f"error: {name}: {own.text}", file=sys.stderr, flush=True)
        found = exchange.all_gather(key, own.to_json(), patience)
    outcome = merged({rank: of_json(text) for rank, text in found.items()})
    if silent := [rank for rank in exchange.others if rank not in found]:
        outcome = CheckOutcome(Status.FAILED, f"{outcome.text}; {_workers(silent)} did not answer")
    return outcome, not silent


class _Watch:
    """Ends the process, with a line, where the context's body hangs: a collective waits for other workers for ever."""

    def __init__(self, name: str, seconds: float, exchange: "Exchange", key: str):
        self._name, self._seconds, self._exchange, self._key = name, seconds, exchange, key
        self._ended = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def __exit__(self, *exception: object) -> None:
        self._ended.set()

    def _watch(self) -> None:
        exchange, end = self._exchange, time.monotonic() + self._seconds
        alarm = None
        while not self._ended.is_set() and time.monotonic() < end:
            if alarm:
                self._ended.wait(1)
            elif alarm := exchange.alarmed(self._key, 1):
                # This worker may still come through, or be the one that has failed and waits for the others' outcomes.
                end = min(end, time.monotonic() + _PATIENCE + 5)
        if self._ended.is_set():
            return
        silent = exchange.silent(self._key)
        behind = f"; {_workers(silent)} not through with it" if silent else ""
        text = alarm or f"nothing for {self._seconds:g} s{behind}"
        stream = sys.stderr if exchange.rank else sys.stdout
        print(_line(Status.FAILED, self._name, text), file=stream)
        print(_line(Status.SKIPPED, "what is left", _OUT_OF_STEP), file=stream)
        command_line.leave(1)


def _line(status: Status, name: str, text: str) -> str:
    return f"{status:<{_WIDTH}} {name}: {text}"


def _workers(ranks: Sequence[int]) -> str:
    return f"worker{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"
