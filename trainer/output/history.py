"""The reports that a run has written: reading them, and taking back those after a step that it returns to."""

import hashlib
import os
import pathlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainer.common import atomic_files
from trainer.output import reports
from trainer.output.manifest import Manifest, Written
from trainer.output.reports import EVENTS, Report

_BLOCK = 2**16  # bytes; nearly every report is shorter


class Reports(Sequence[Report]):
    """The reports in a `metrics.jsonl`, in its order; empty where there is no file.

    Every pass reads the file anew, so that no run holds them in memory. Lines that are no report, which a crash or a
    damage leaves, are left out.

    Args:
      metrics: the file.
      size: how many of its bytes to read; None reads all.
    """

    def __init__(self, metrics: pathlib.Path, size: int | None = None):
        self._metrics, self._size = metrics, size

    def __iter__(self) -> Iterator[Report]:
        for line in _lines(self._metrics, self._size):
            if report := _report(line):
                yield report

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]


def last(metrics: pathlib.Path) -> Report | None:
    """The last report in a `metrics.jsonl`, from its end; None where there is none."""
    if not metrics.is_file():
        return None
    with metrics.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        block = _BLOCK
        while True:
            file.seek(max(0, size - block))
            found = deque((report for line in file if (report := _report(line))), maxlen=1)
            if found or block >= size:  # the first line of a block may be the end of a longer one, which is no report
                return found[0] if found else None
            block *= 2


def begins_with(metrics: pathlib.Path, written: Written) -> bool:
    """True where a file begins with what was written to it."""
    digest, left = hashlib.sha256(), written.size
    try:
        with metrics.open("rb") as file:
            while left and (block := file.read(min(left, 2**20))):
                digest.update(block)
                left -= len(block)
    except OSError:
        return written.size == 0
    return not left and digest.hexdigest() == written.sha256


def damaged_events(tensorboard: pathlib.Path, sizes: Mapping[str, int]) -> list[str]:
    """The names of the event files that are gone, or shorter than what was written to them."""
    return [name for name, size in sizes.items() if _size(tensorboard / name) < size]


def rewind(metrics: pathlib.Path, tensorboard: pathlib.Path, step: int, saved: Manifest | None) -> None:
    """Removes every report after `step`, so that a run which resumes there holds each step once.

    Nothing is read where nothing is damaged: files only grow, and end where they ended. An interrupted rewinding is
    repeated by the next one.

    Args:
      metrics: the run's `metrics.jsonl`. Where it is damaged, the reports in it that can be read stay.
      tensorboard: the run's event files, one folder per split.
      step: number of steps that stay.
      saved: the run's files at that step; None where nothing stays.
    """
    if saved is None or begins_with(metrics, saved.reports):
        _cut(metrics, saved.reports.size if saved else 0)
    elif metrics.is_file():
        kept = [line for line in _lines(metrics) if (own := _report(line)) and own.step <= step]
        atomic_files.write_whole(metrics, b"".join(kept))
    for path in sorted(tensorboard.glob(EVENTS)):
        size = saved and saved.events.get(str(path.relative_to(tensorboard)))
        if size is None:
            path.unlink()  # of a process that began later
        else:
            _cut(path, size)


def _cut(path: pathlib.Path, size: int) -> None:
    if _size(path) <= size:
        return
    descriptor = atomic_files.open_no_link(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def _size(path: pathlib.Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _lines(metrics: pathlib.Path, size: int | None = None) -> Iterator[bytes]:
    if not metrics.is_file():
        return
    with metrics.open("rb") as file:
        read = 0
        for line in file:
            read += len(line)
            if size is not None and read > size:
                return
            yield line


def _report(line: bytes) -> Report | None:
    """The report of a line; None where the line is torn or none that a run writes."""
    try:
        return reports.of_json(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
