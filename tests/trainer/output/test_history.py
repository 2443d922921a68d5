"""Reports that stay and reports that are taken back."""

import json
import sys
from collections.abc import Iterator

import pytest
import tensorflow as tf

from trainer.output import history, manifest, reports, tensorboard
from trainer.output.manifest import Manifest, Written
from trainer.output.reports import TRAIN, VALIDATION, Report
from trainer.output.speed import PREFIX

REPORTS = [
    Report(step, split, {"loss/a": 0.1 * step, "loss/b": None if step == 2 else 1 / 3})
    for step in (1, 2, 3)
    for split in (TRAIN, VALIDATION)
]


@pytest.fixture
def run(tmp_path):
    """The files of a run with six reports, and what a checkpoint of each step says of them."""
    return tmp_path, _write(tmp_path, REPORTS)


def _write(path, written):
    """Appends reports; returns step → the manifest of a checkpoint then."""
    lines, events = reports.JsonLines(path / "metrics.jsonl"), tensorboard.TensorBoard(path / "tensorboard")
    saved = {}
    for report in [None, *written]:
        if report is not None:
            lines.write(report)
            events.write(report)
        saved[report.step if report else 0] = Manifest({}, "", lines.synced(), None, events.synced(), {})
    lines.close()
    events.close()
    return saved


def events(path) -> list[tuple[int, str, str]]:
    """Step, split and tag of everything that TensorBoard shows, but for the speed, which differs from run to run."""
    found = []
    for file in sorted((path / "tensorboard").rglob("events*")):
        for record in _records(file.read_bytes()):
            event = tf.compat.v1.Event.FromString(record)
            found += [(event.step, file.parent.name, value.tag) for value in event.summary.value]
    return [each for each in found if not each[2].startswith(tensorboard.tag(PREFIX))]


def _records(data: bytes) -> Iterator[bytes]:
    """The whole records of a file: length and checksum (12 bytes), contents, checksum."""
    while len(data) >= 12 and len(data) >= (end := 16 + int.from_bytes(data[:8], "little")):
        yield data[12 : end - 4]
        data = data[end:]


def _expected(kept) -> list[tuple[int, str, str]]:
    return sorted(
        (report.step, report.split, tensorboard.tag(name))
        for report in kept
        for name, value in report.values.items()
        if value is not None
    )


def _rewind(path, step, saved):
    history.rewind(path / "metrics.jsonl", path / "tensorboard", step, saved)


def _read(path):
    return list(history.Reports(path / "metrics.jsonl"))


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_rewind(run, step):
    path, saved = run
    kept = [report for report in REPORTS if report.step <= step]
    for _ in range(2):  # one that was interrupted is repeated
        _rewind(path, step, saved[step])
        assert _read(path) == kept
        assert history.last(path / "metrics.jsonl") == (kept[-1] if kept else None)
        assert sorted(events(path)) == _expected(kept)
    again = _write(path, [report for report in REPORTS if report.step > step])
    assert _read(path) == REPORTS
    assert sorted(events(path)) == _expected(REPORTS)
    assert again[max(again)].reports == saved[3].reports
    _rewind(path, step, again[0])  # two files for each split, of which the second begins at that step
    assert sorted(events(path)) == _expected(kept)


def test_rewind_to_the_start(run):
    path, _ = run
    _rewind(path, -1, None)
    assert _read(path) == events(path) == []


def test_torn_ends_are_left_out(run):
    """A kill in the middle of writing leaves such ends."""
    path, saved = run
    for file in (path / "metrics.jsonl", *(path / "tensorboard").rglob("events*")):
        file.write_bytes(file.read_bytes()[:-7])
    assert _read(path) == REPORTS[:-1]
    assert history.last(path / "metrics.jsonl") == REPORTS[-2]
    _rewind(path, 2, saved[2])
    assert _read(path) == REPORTS[:4]
    assert sorted(events(path)) == _expected(REPORTS[:4])


def test_nothing_is_read_where_nothing_is_damaged(tmp_path):
    """Of a run of many reports that would take long: files are cut where they ended."""
    (tmp_path / "tensorboard" / "train").mkdir(parents=True)
    event = tmp_path / "tensorboard" / "train" / "events.out.tfevents.1"
    event.write_bytes(b"no event" + b"later")
    (tmp_path / "metrics.jsonl").write_bytes(b"no report\n" * 2)
    lines = reports.JsonLines(tmp_path / "metrics.jsonl")
    saved = Manifest({}, "", lines.synced(), None, {"train/events.out.tfevents.1": 8}, {})
    lines.write(REPORTS[0])
    lines.close()
    _rewind(tmp_path, 2, saved)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"no report\n" * 2
    assert event.read_bytes() == b"no event"


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (lambda data: data.replace(b"0.1,", b"0.7,", 1), [0, 1, 2, 3]),
        (lambda data: data[1:], [1, 2, 3]),
        (lambda data: b"".join(data.splitlines(keepends=True)[1:]), [1, 2, 3]),
        (lambda data: data.replace(b'"step": 1', b'"step": 9', 1), [1, 2, 3]),
        (lambda data: data.replace(b"null", b"[{}]", 1), [0, 1, 3]),
        (lambda data: data.replace(b"train", b"tr\xffin", 1), [1, 2, 3]),
        (lambda data: b"\xff\xfe" + data, [1, 2, 3]),
        (lambda data: b"", []),
    ],
)
def test_damaged_reports(run, damage, kept):
    """They are noticed, and those that can be read stay."""
    path, saved = run
    data = (path / "metrics.jsonl").read_bytes()
    (path / "metrics.jsonl").write_bytes(damage(data))
    assert not history.begins_with(path / "metrics.jsonl", saved[2].reports)
    _rewind(path, 2, saved[2])
    found = _read(path)
    assert [(report.step, report.split) for report in found] == [(REPORTS[k].step, REPORTS[k].split) for k in kept]


def test_damaged_events(run):
    path, saved = run
    assert history.damaged_events(path / "tensorboard", saved[3].events) == []
    train, validation = sorted(saved[3].events)
    (path / "tensorboard" / train).unlink()
    (path / "tensorboard" / validation).write_bytes(b"")
    assert sorted(history.damaged_events(path / "tensorboard", saved[3].events)) == [train, validation]
    _rewind(path, 2, saved[2])
    assert not (path / "tensorboard" / train).exists()


def test_a_last_report_that_is_long(tmp_path):
    long = Report(2, TRAIN, {f"loss/{index}": 0.1 for index in range(20_000)})
    lines = reports.JsonLines(tmp_path / "metrics.jsonl")
    lines.write(REPORTS[0])
    lines.write(long)
    lines.close()
    assert history.last(tmp_path / "metrics.jsonl") == long


def test_no_files(tmp_path):
    assert _read(tmp_path) == []
    assert history.last(tmp_path / "metrics.jsonl") is None
    _rewind(tmp_path, -1, None)
    assert not list(tmp_path.iterdir())


def test_a_manifest_comes_back(run):
    path, saved = run
    written = saved[2]
    (path / manifest.NAME).write_text(written.to_json())
    assert manifest.read(path) == written
    assert isinstance(manifest.read(path).reports, Written)
    assert json.loads(written.to_json())["reports"]["size"] < (path / "metrics.jsonl").stat().st_size


def test_tensorboard_keeps_no_value(tmp_path):
    """TensorFlow keeps a tensor for every Python number that it was ever given: 6 kB for each report of a long run."""
    value, step = 0.1 + sys.maxsize, 10**6 + 7
    writer = tensorboard.TensorBoard(tmp_path)
    before = sys.getrefcount(value), sys.getrefcount(step)
    writer.write(Report(step, TRAIN, {"loss/a": value}))
    assert (sys.getrefcount(value), sys.getrefcount(step)) == before
    writer.close()
