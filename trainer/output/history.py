"""The reports that a run has written: reading them, and taking back those after a step that it returns to."""

import pathlib
from collections.abc import Iterator

import tensorflow as tf

from trainer.common import atomic_files
from trainer.output import reports
from trainer.output.reports import Report


def read(metrics: pathlib.Path) -> list[Report]:
    """The reports in a `metrics.jsonl`; lines that a crash has torn are left out. Empty where there is no file."""
    return [report for report, _ in _lines(metrics)]


def rewind(metrics: pathlib.Path, tensorboard: pathlib.Path, step: int) -> list[Report]:
    """Removes every report after `step`, so that a run which resumes there holds each step once.

    Args:
      metrics: the run's `metrics.jsonl`.
      tensorboard: the run's event files, one folder per split.
      step: number of steps that stay.

    Returns:
      The reports that stay.
    """
    kept = [(report, line) for report, line in _lines(metrics) if report.step <= step]
    text = "".join(line for _, line in kept)
    if metrics.exists() and metrics.read_text(encoding="utf-8", errors="replace") != text:
        atomic_files.write_whole(metrics, text)
    for folder in sorted(tensorboard.glob("*")):
        _rewind_events(sorted(folder.glob("events.out.tfevents.*")), step)
    return [report for report, _ in kept]


def _lines(metrics: pathlib.Path) -> Iterator[tuple[Report, str]]:
    if not metrics.exists():
        return
    for line in metrics.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            report = reports.of_json(line)
        except ValueError:
            continue
        if line.endswith("\n"):
            yield report, line


def _rewind_events(paths: list[pathlib.Path], step: int) -> None:
    """Rewrites a folder's event files as one, with what was written up to `step`, each value once."""
    kept, seen, changed = [], set(), False
    for path in paths:
        for event in _events(path):
            key = (event.step, tuple(value.tag for value in event.summary.value))
            if event.step > step or (key[1] and key in seen):
                changed = True
                continue
            seen.add(key)
            kept.append(event.SerializeToString())
    if not changed:
        return
    partial = paths[0].with_name(".incomplete_events")
    with tf.io.TFRecordWriter(str(partial)) as writer:
        for event in kept:
            writer.write(event)
    partial.replace(paths[0])
    for path in paths[1:]:
        path.unlink()


def _events(path: pathlib.Path) -> Iterator[tf.compat.v1.Event]:
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield tf.compat.v1.Event.FromString(record)
    except tf.errors.DataLossError:  # a crash has torn the last one
        return
