"""Hooks and loggers: when they are called and with what, runs that hooks stop, and what happens where either fails."""

import io
import json
import shutil
import struct
import time
import types

import keras
import pytest
from rich.console import Console

from tests import problems
from tests.properties import built_once
from trainer.common import schema, trust
from trainer.common.errors import ConfigError, RunError, UntrustedError
from trainer.config import loading
from trainer.output import checkpoint, workdir
from trainer.output.reports import Report
from trainer.run import hooks, loggers, resume, train, wandb_logger

_HERE = "tests.trainer.run.test_following"
_TREE = {"steps": 9, "report_every": 2, "eval_every": 4, "steps_per_loop": 3, "keep_checkpoints": 9}
_TREE |= {"hooks": [f"{_HERE}:note"], "loggers": [{"name": f"{_HERE}:Keeper", "label": "a"}]}
# All runs have one configuration, so that it is traced once; what its hook and logger do is said here.
_does: dict = {}
_calls, _given = [], []


def note(run, step, report, limit=None):
    _calls.append((step, report.kind, report.split, dict(report.values)))
    assert isinstance(run.model, keras.Model)
    assert (run.path / "config.json").exists()
    assert (run.config["batch_size"], run.steps) == (11, 9)
    report.values.clear()  # its own
    if step == _does.get("stop") and report.kind != "end":
        run.stop("the user has\nseen enough")
    if _does.get("fail") in (step, report.kind):
        raise _does.get("error", ValueError("no such figure"))


class Keeper:
    def __init__(self, label):
        assert label == "a"

    def start(self, run):
        _given.append(("start", run.path.name))
        if _does.get("start"):
            raise OSError("the place is gone")

    def write(self, step, values):
        if step == _does.get("write"):
            raise OSError("the place is full")
        _given.append((step, values))

    def finish(self, result):
        _given.append(("finish", result))


class NoFinish:
    def start(self, run): ...

    def write(self, step, values): ...


def _train(path, **does):
    _calls.clear()
    _given.clear()
    _does.clear()
    _does.update(does)
    config = problems.config(**{**problems.SIMPLE, **_TREE})
    return list(train.train(config, str(path), problems.strategy(1), Console(file=io.StringIO(), width=200)))


def _rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def _logged(reports):
    return [(each.step, {f"{each.split}/{name}": value for name, value in each.values.items()}) for each in reports]


def _written():
    return [entry for entry in _given if isinstance(entry[0], int)]


def _newest(path):
    return checkpoint.step_of(checkpoint.newest_good(path / "checkpoints", print))


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that a hook ended in its first report, from a copy of which all others resume."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with built_once.building_once():
        with pytest.raises(RunError) as error:
            _train(path, fail=2)
        line = f"hook {_HERE}:note raised ValueError: no such figure ({__file__}:"
        assert str(error.value).startswith(line)
        assert "(step 2); what was trained is saved, the same command" in str(error.value)
        assert line in (path / "log.txt").read_text()
        assert _newest(path) == 2
        assert [entry[0] for entry in _given] == ["start", 2, "finish"]
        result = _given[-1][1]
        assert (result.outcome, result.reason) == ("failed", str(error.value))
        yield path


@pytest.fixture
def run(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "run")


@pytest.fixture(scope="module")
def whole(begun):
    """The reports of a run that nothing else ended, and what its hook and its logger got after step 2."""
    path = shutil.copytree(begun, begun.parent / "whole")
    reports = _train(path)
    return path, reports, list(_calls), list(_given)


def test_both_see_every_report_and_the_end(whole):
    _, reports, calls, given = whole
    last = reports[-1]
    kinds = {"train": "train", "validation": "evaluation"}
    expected = [(each.step, kinds[each.split], each.split, each.values) for each in reports[1:]]
    assert calls == [*expected, (9, "end", "validation", last.values)]
    assert [call[:2] for call in calls[:2]] == [(4, "train"), (4, "evaluation")]
    finals = dict(_logged([last])[0][1])
    assert given[0] == ("start", "whole")
    assert given[1:-1] == _logged(reports[1:])
    assert given[-1] == ("finish", loggers.Result("finished", "", finals))


@pytest.mark.parametrize("step", [4, pytest.param(6, marks=pytest.mark.ci_only)])
def test_a_hook_stops_a_run_for_good(run, step):
    """At an evaluation, and at a report that has none: it is evaluated, saved and said, and stays so when resumed."""
    reports = _train(run, stop=step)
    assert (reports[-1].step, reports[-1].split, _newest(run)) == (step, "validation", step)
    reason = f"the user has seen enough ({_HERE}:note)"
    assert f"stopped early at step {step}: {reason}" in (run / "log.txt").read_text()
    assert (_given[-1][1].outcome, _given[-1][1].reason) == ("stopped", reason)
    rows = _rows(run)
    _train(run)
    assert _rows(run) == rows
    assert [call[:2] for call in _calls if call[1] != "evaluation"] == [(step, "end")]


def test_with_other_hooks_a_stopped_run_continues():
    config = problems.config(**_TREE)
    saved = types.SimpleNamespace(config=json.loads(loading.to_json(config)) | {}, monitors={"hooks": "enough"})
    saved.config.pop("format")
    assert resume._stopped(saved, config) == "enough"
    assert resume._stopped(saved, problems.config(**_TREE | {"hooks": []})) is None


@pytest.mark.parametrize(("fail", "step", "error"), [("evaluation", 4, ValueError("a\nb")), ("end", 9, SystemExit(3))])
def test_a_failing_hook_loses_nothing(run, whole, fail, step, error):
    with pytest.raises(RunError, match=type(error).__name__):
        _train(run, fail=fail, error=error)
    assert _newest(run) == step
    assert (run / "report.md").exists() is (fail == "end")
    _train(run)
    assert _rows(run) == _rows(whole[0])


def test_a_logger_gets_no_report_twice_and_what_it_missed(whole, tmp_path):
    path, reports = shutil.copytree(whole[0], tmp_path / "run"), whole[1]
    for folder in ("step_00000008", "step_00000009"):  # as if the process had been killed after step 6
        shutil.rmtree(path / "checkpoints" / folder)
    assert _newest(path) == 4
    _train(path)
    assert _rows(path) == _rows(whole[0])
    assert not _written()
    (path / "loggers.json").unlink()  # a logger that is new
    _train(path)
    assert _written() == _logged(reports)


def test_a_logger_that_fails_is_said_once_and_catches_up(run, whole):
    _train(run, write=4)
    assert (run / "log.txt").read_text().count(f"warning: logger {_HERE}:Keeper: write raised OSError") == 1
    assert _given == [("start", "run")]
    assert _rows(run) == _rows(whole[0])
    _train(run)
    assert _written() == _logged(whole[1][1:])


def test_a_logger_that_cannot_start(run):
    rows = _rows(run)
    with pytest.raises(RunError, match=f"logger {_HERE}:Keeper cannot start: OSError: the place is gone .*no step"):
        _train(run, start=True)
    assert _rows(run) == rows
    (run / "loggers.json").write_text('{"a": 3}')
    with pytest.raises(RunError, match="loggers.json is damaged"):
        _train(run)


@pytest.mark.parametrize(
    ("kind", "spec", "message"),
    [
        ("hooks", "note", "hooks.0.name='note': must be an import path"),
        ("hooks", f"{_HERE}:nothing", "has no 'nothing'"),
        ("hooks", {"name": f"{_HERE}:note", "limt": 3}, "hooks.0.limt=3: .*limit"),
        ("hooks", {"limit": 3}, "hooks.0.name: is missing"),
        ("loggers", "wandbox", "loggers.0.name='wandbox': must be 'wandb' or an import path"),
        ("loggers", f"{_HERE}:Keeper", "loggers.0.label: is missing"),
        ("loggers", f"{_HERE}:NoFinish", "must be a class with the methods start, write, finish; it lacks finish"),
        ("loggers", {"name": f"{_HERE}:Keeper", "label": "b"}, "raised AssertionError"),
    ],
)
def test_what_cannot_follow_is_refused(kind, spec, message):
    with pytest.raises(ConfigError, match=message):  # noqa: PT012
        config = problems.config(**{kind: [spec]})
        hooks.load(config.hooks)
        loggers.build(config.loggers, is_chief=True)


def test_those_of_a_foreign_run_must_be_trusted():
    tree = schema.as_dict(problems.config(**_TREE, dataset__name="configs.own_arrays:load"))
    with pytest.raises(UntrustedError, match=r"loggers.0.name.*hooks.0.name"):
        trust.NOBODY.check(tree, "run")
    trust.in_packages(["tests"]).check(tree, "run")


def test_the_examples_of_the_page(tmp_path):
    config = loading.load("configs/own_hooks.py")
    run = hooks.TrainingRun(None, config, tmp_path, 9)
    followers = hooks.Hooks(hooks.load(config.hooks), run)
    named = loggers.build(config.loggers, is_chief=True)
    said: list[str] = []
    with loggers.Loggers(named, workdir.Workdir(tmp_path), said.append) as logging:
        assert not logging.start(run, [])
        for step, value in ((2, 0.1), (4, 0.5)):
            assert not followers.is_over
            report = Report(step, "validation", {"progression/r2_score": value})
            logging.write(report)
            followers.call(report)
        logging.finish("stopped", followers.stopped)
    reason = "an R2 of 0.3 is enough (configs.own_hooks:stop_when_good)"
    assert followers.stopped == reason
    lines = [f"{step} validation/progression/r2_score {value}" for step, value in ((2, 0.1), (4, 0.5))]
    assert (tmp_path / "table.txt").read_text().splitlines() == [*lines, f"stopped {reason}"]
    assert not said


def _records(content):
    """The records in a file of Weights & Biases, a log as LevelDB writes it, in blocks of 32 KiB."""
    at, whole = 7, b""
    while at + 7 <= len(content):
        if 2**15 - at % 2**15 < 7:  # what is left of a block holds no header
            at += 2**15 - at % 2**15
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield whole
            whole = b""


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    """Both processes of a run are one run there, with every row once, and the outcome."""
    wandb = pytest.importorskip("wandb", reason="the package wandb is not installed")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ConfigError, match="loggers.0.projct='x': .*'project'"):
        wandb_logger.build({"projct": "x"}, "loggers.0")
    run = types.SimpleNamespace(path=tmp_path, config={"steps": 9})
    for steps, outcome in (((2, 4), "failed"), ((6,), "finished")):
        logger = wandb_logger.build({"project": "digits"}, "loggers.0")
        logger.start(run)
        for step in steps:
            logger.write(step, {"train/loss/digit": step / 10, "train/cosine/a/b": None})
        logger.finish(loggers.Result(outcome, "", {}))
        time.sleep(1.1)  # it names folders by seconds, in which no process ends and starts again
    assert wandb.run is None
    rows, codes, ids, configs = [], [], set(), []
    for file in sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        for data in _records(file.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                rows.append({name: value for name, value in items.items() if not name.startswith("_")})
            elif kind == "exit":
                codes.append(record.exit.exit_code)
            elif kind == "run":
                ids.add((record.run.run_id, record.run.project))
                configs += [item.key for item in record.run.config.update]
    assert rows == [{"step": step, "train/loss/digit": step / 10} for step in (2, 4, 6)]
    assert codes == [1, 0]
    assert ids == {((tmp_path / "wandb_id.txt").read_text().strip(), "digits")}
    assert "steps" in configs
