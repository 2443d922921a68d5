"""Reports of a run for machines, and the file that keeps them: `metrics.jsonl`."""

import dataclasses
import errno
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Mapping

from trainer.common import atomic_files, json_text, schema
from trainer.output.manifest import Written

TRAIN, VALIDATION = "train", "validation"
EVENTS = "*/events.out.tfevents.*"  # the event files in a directory for TensorBoard: a folder for each split


@dataclasses.dataclass(frozen=True)
class Report:
    """The values that are known at one step.

    Attributes:
      step: number of steps taken.
      split: "train", "validation" or another one.
      values: flat names → numbers; None where a value does not exist (no label, a gradient of zero).
    """

    step: int
    split: str
    values: Mapping[str, float | None]


class JsonLines:
    """Appends each report to a file as one JSON object with flat keys."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._file = atomic_files.open_to_append(path)
        atomic_files.sync(path.parent)  # where the file is new
        with path.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256")
            self._size = file.tell()

    def write(self, report: Report) -> None:
        """Writes one line: `step`, `split` and the values; null where a value is missing or not finite."""
        if not atomic_files.is_still_at(self._path, self._file.fileno()):
            raise gone(self._path)
        values = {name: value if _is_number(value) else None for name, value in report.values.items()}
        line = json.dumps({"step": report.step, "split": report.split, **values}) + "\n"
        self._file.write(line)
        self._file.flush()
        self._digest.update(line.encode())
        self._size += len(line)  # JSON is written in ASCII

    def synced(self) -> Written:
        """Returns what the file holds, once that is on the disk."""
        os.fsync(self._file.fileno())
        return Written(self._size, self._digest.hexdigest())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def of_json(line: str | bytes) -> Report:
    """Returns the report in a line that `JsonLines` wrote; raises ValueError for any other text."""
    values = json_text.parse(line)
    if not isinstance(values, dict):
        raise ValueError("it is no dictionary")
    step, split = values.pop("step", None), values.pop("split", None)
    if not _is_count(step) or not isinstance(split, str) or not schema.NAME.fullmatch(split):
        raise ValueError("it has no step and no split")
    if not all(value is None or (isinstance(value, int | float) and value is not True) for value in values.values()):
        raise ValueError("it holds something that is no number")
    return Report(step, split, values)


def gone(path: pathlib.Path) -> OSError:
    """Returns the error for a file or folder that somebody has removed while the run was writing it."""
    return FileNotFoundError(errno.ENOENT, "removed or replaced while the run was writing it", str(path))


def _is_count(step: object) -> bool:
    return isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 2**63


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
