"""Reports that stay and reports that are taken back."""

import pytest
import tensorflow as tf

from trainer.output import history, reports
from trainer.output.reports import TRAIN, VALIDATION, Report

REPORTS = [
    Report(step, split, {"loss/a": 0.1 * step, "loss/b": None if step == 2 else 1 / 3})
    for step in (1, 2, 3)
    for split in (TRAIN, VALIDATION)
]


@pytest.fixture
def run(tmp_path):
    """The files of a run with six reports."""
    _write(tmp_path, REPORTS)
    return tmp_path


def _write(path, written):
    writers = [reports.JsonLines(path / "metrics.jsonl"), reports.TensorBoard(path / "tensorboard")]
    for report in written:
        for writer in writers:
            writer.write(report)
    for writer in writers:
        writer.close()


def events(path) -> list[tuple[int, str]]:
    found = []
    for file in sorted((path / "tensorboard").rglob("events*")):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            found += [(event.step, file.parent.name, value.tag) for value in event.summary.value]
    return found


def _expected(kept) -> list[tuple[int, str, str]]:
    return sorted(
        (report.step, report.split, name)
        for report in kept
        for name, value in report.values.items()
        if value is not None
    )


@pytest.mark.parametrize("step", [0, 1, 2, 3, 9])
def test_rewind(run, step):
    kept = [report for report in REPORTS if report.step <= step]
    assert history.rewind(run / "metrics.jsonl", run / "tensorboard", step) == kept
    assert history.read(run / "metrics.jsonl") == kept
    assert sorted(events(run)) == _expected(kept)
    _write(run, [report for report in REPORTS if report.step > step])
    assert history.read(run / "metrics.jsonl") == REPORTS
    assert sorted(events(run)) == _expected(REPORTS)


def test_torn_ends_are_left_out(run):
    """A kill in the middle of writing leaves such ends."""
    for path in (run / "metrics.jsonl", *(run / "tensorboard").rglob("events*")):
        path.write_bytes(path.read_bytes()[:-7])
    assert history.read(run / "metrics.jsonl") == REPORTS[:-1]
    history.rewind(run / "metrics.jsonl", run / "tensorboard", 2)
    assert history.read(run / "metrics.jsonl") == REPORTS[:4]
    assert sorted(events(run)) == _expected(REPORTS[:4])


def test_a_rewind_that_was_interrupted_is_repeated(run):
    """The rewritten event file stands beside one that it was made of: values in both are kept once."""
    (first,) = (run / "tensorboard" / "train").iterdir()
    (run / "tensorboard" / "train" / f"{first.name}.copy").write_bytes(first.read_bytes())
    history.rewind(run / "metrics.jsonl", run / "tensorboard", 2)
    assert sorted(events(run)) == _expected(REPORTS[:4])


def test_no_files(tmp_path):
    assert history.read(tmp_path / "metrics.jsonl") == []
    assert history.rewind(tmp_path / "metrics.jsonl", tmp_path / "tensorboard", 0) == []
    assert not list(tmp_path.iterdir())
