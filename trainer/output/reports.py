"""Reports of a run for machines: `metrics.jsonl` and TensorBoard."""

import dataclasses
import errno
import json
import math
import pathlib
from collections.abc import Mapping

import tensorflow as tf

from trainer.common import atomic_files, json_text

TRAIN, VALIDATION = "train", "validation"


@dataclasses.dataclass(frozen=True)
class Report:
    """The values that are known at one step.

    Attributes:
      step: number of steps taken.
      split: "train" or "validation".
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

    def write(self, report: Report) -> None:
        """Writes one line: `step`, `split` and the values; null where a value is missing or not finite."""
        if not atomic_files.is_still_at(self._path, self._file.fileno()):
            raise _gone(self._path)
        values = {name: value if _is_number(value) else None for name, value in report.values.items()}
        self._file.write(json.dumps({"step": report.step, "split": report.split, **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard:
    """Writes each report as scalars, one folder per split so that their curves lie over one another."""

    def __init__(self, directory: pathlib.Path):
        self._folders = {split: directory / split for split in (TRAIN, VALIDATION)}
        self._writers = {split: tf.summary.create_file_writer(str(path)) for split, path in self._folders.items()}

    def write(self, report: Report) -> None:
        """Writes the values that exist."""
        if not self._folders[report.split].is_dir():
            raise _gone(self._folders[report.split])
        writer = self._writers[report.split]
        with writer.as_default(step=report.step):
            for name, value in report.values.items():
                if value is not None:
                    tf.summary.scalar(name, tf.constant(value, tf.float64))  # float32 overflows
        writer.flush()

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()


def of_json(line: str) -> Report:
    """Returns the report in a line that `JsonLines` wrote; raises ValueError for any other text."""
    values = json_text.parse(line)
    if not isinstance(values, dict):
        raise ValueError("it is no dictionary")
    step, split = values.pop("step", None), values.pop("split", None)
    if not _is_count(step) or split not in (TRAIN, VALIDATION):
        raise ValueError("it has no step and no split")
    if not all(value is None or (isinstance(value, int | float) and value is not True) for value in values.values()):
        raise ValueError("it holds something that is no number")
    return Report(step, split, values)


def _is_count(step: object) -> bool:
    return isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 2**63


def _gone(path: pathlib.Path) -> OSError:
    return FileNotFoundError(errno.ENOENT, "removed or replaced while the run was writing it", str(path))


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
