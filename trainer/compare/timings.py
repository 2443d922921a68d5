"""The timing of a comparison's methods, each alone in a process of its own, after everything is trained."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

from trainer.common import atomic_files, schema
from trainer.compare import collected, plan_file, training
from trainer.compare.collected import Timing
from trainer.compare.grid import Prepared
from trainer.compare.messages import Event, Request, RunRequest
from trainer.compare.training import Work

REFERENCE = "sum"  # the method to whose time and memory those of the others are compared
_FORMAT = 1


def measure(prepared: Sequence[Prepared], steps: int, work: Work, say: Callable[[str], None]) -> None:
    """Times the steps of cells that are not timed yet, one after another, and keeps what was found.

    Args:
      prepared: the cells.
      steps: the most steps of a round of each.
      work: where and how.
      say: takes lines for the user.
    """
    place = work.place
    found = collected.read_timing(place.path)
    for cell, config, failure in prepared:
        if work.stopping.signal is not None:
            return
        if cell.name in found and found[cell.name].failure is None:
            continue
        if config is None:
            found[cell.name] = Timing(None, None, "", failure)
        else:
            say(f"{cell.name}: timing its steps alone")
            tree = schema.as_dict(config)
            request = dataclasses.replace(work.devices, runs=[RunRequest(config.seed, "", tree)], timed_steps=steps)
            log = plan_file.log_path(place.path, cell)
            if (timed := _timed(request, log, work)) is None:
                return
            found[cell.name] = timed
        _write(place.path, found)


def _timed(request: Request, log: pathlib.Path, work: Work) -> Timing | None:
    """Lets a process time what is requested; None where a signal stopped it."""
    events: list[Event] = []
    log.parent.mkdir(parents=True, exist_ok=True)
    code = work.launch(request, log, work.place.base, work.stopping, events.append)
    if work.stopping.signal is not None:
        return None
    if not events:
        return Timing(None, None, "", training.ended_early(code, log, work))
    if events[0].kind == "refused":
        raise training.refusal(events[0])
    return Timing(**events[0].values) if events[0].kind == "timed" else Timing(None, None, "", events[0].reason)


def _write(workdir: pathlib.Path, found: dict[str, Timing]) -> None:
    cells = {name: dataclasses.asdict(each) for name, each in found.items()}
    atomic_files.write_whole(
        workdir / collected.TIMING, json.dumps({"format": _FORMAT, "cells": cells}, indent=1) + "\n"
    )
