"""Reports of a run for TensorBoard."""

import pathlib

import tensorflow as tf

from trainer.common import atomic_files
from trainer.components import scalars
from trainer.output import reports
from trainer.output.reports import EVENTS, TRAIN, VALIDATION, Report


class TensorBoard:
    """Writes each report as scalars, one folder per split so that their curves lie over one another.

    Those of `train` and `validation` are made at once, another split's with its first report.
    """

    def __init__(self, directory: pathlib.Path):
        self._directory = directory
        self._writers = {split: self._writer(split) for split in (TRAIN, VALIDATION)}

    def write(self, report: Report) -> None:
        """Writes the values that exist."""
        if report.split not in self._writers:
            self._writers[report.split] = self._writer(report.split)
        elif not (self._directory / report.split).is_dir():
            raise reports.gone(self._directory / report.split)
        writer = self._writers[report.split]
        with writer.as_default(step=scalars.int64(report.step)):
            for name, value in report.values.items():
                if value is not None:
                    tf.summary.scalar(name, scalars.float64(value))  # float32 overflows
        writer.flush()

    def _writer(self, split: str) -> tf.summary.SummaryWriter:
        return tf.summary.create_file_writer(str(self._directory / split))

    def synced(self) -> dict[str, int]:
        """Returns the size in bytes of every event file, by its path below the directory, once it is on the disk."""
        paths = sorted(self._directory.glob(EVENTS))
        for path in paths:
            atomic_files.sync(path)
        return {str(path.relative_to(self._directory)): path.stat().st_size for path in paths}

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
