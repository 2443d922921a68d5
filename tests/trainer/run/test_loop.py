"""Whole runs: what they write, what they show, that they repeat, and that replicas hardly matter in float32."""

import dataclasses
import io
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from tests import problems
from tests.properties import built_once, interrupted
from tests.trainer.output.pages import Page
from trainer.common import errors
from trainer.common.errors import NonFiniteError, RunError
from trainer.config import loading
from trainer.output import plots, tensorboard, workdir
from trainer.output.history import Reports
from trainer.output.reports import Report
from trainer.output.speed import Total
from trainer.run import evaluate, experiment, train

DIGITS = str(pathlib.Path(__file__).parents[3] / "configs" / "digits.py")


def _console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=150, highlight=False)


def _train(path: pathlib.Path, replicas: int = 1, console: Console | None = None, **changes) -> list[Report]:
    return train.train(problems.config(**changes), str(path), problems.strategy(replicas), console or _console())


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Drawing them takes longer than the steps; the run that all tests share has some."""
    monkeypatch.setattr(plots, "save_curves", lambda *_: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 25 steps with missing labels."""
    path = tmp_path_factory.mktemp("runs") / "run"
    changes = {
        "steps": 25,
        "report_every": 10,
        "eval_every": 8,
        "steps_per_loop": 6,
        "dataset__options": {"missing": True},
    }
    return path, _train(path, replicas=2, **changes), changes


def test_metrics_file(run):
    path, history, _ = run
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["split"]) for row in rows] == [
        (8, "validation"),
        (10, "train"),
        (16, "validation"),
        (20, "train"),
        (24, "validation"),
        (25, "train"),
        (25, "validation"),
    ]
    names = problems.LOSSES
    pairs = {f"cosine/{a}/{b}" for i, a in enumerate(names) for b in names[i + 1 :]}
    train_keys = {"step", "split"} | {f"loss/{n}" for n in names} | {f"grad_norm/{n}" for n in names} | pairs
    train_keys |= {f"learning_rate/{n}" for n in ("shared", "label", "number")}
    validation_keys = {"step", "split", "label/accuracy", "number/mae"}
    validation_keys |= {f"{of}/{n}" for n in names for of in ("loss", "labels")}
    for row, report in zip(rows, history, strict=True):
        assert set(row) == (train_keys if row["split"] == "train" else validation_keys)
        assert {key: value for key, value in row.items() if key not in ("step", "split")} == report.values


@pytest.mark.parametrize("every", [11, pytest.param(40, marks=pytest.mark.ci_only)])
def test_the_first_reports_come_early_and_change_no_step(every, tmp_path, monkeypatch):
    """After steps 1 and 10, also in a run that was interrupted in between; with one trace, and the same variables."""
    monkeypatch.setattr(plots, "save_curves", lambda *_: None)
    changes = {"steps": 12, "eval_every": 12, "checkpoint_every": 5, "keep_checkpoints": 9, **problems.SIMPLE}
    with built_once.building_once():
        for name, own in (("early", every), ("regular", 10)):
            _train(tmp_path / name, report_every=own, **changes)
        expected = interrupted.results(tmp_path / "early", 12)
        interrupted.forget_after(tmp_path / "early", 5)
        _train(tmp_path / "early", report_every=every, **changes)
    assert interrupted.results(tmp_path / "early", 12) == expected
    assert interrupted.variables(tmp_path / "early", 12) == interrupted.variables(tmp_path / "regular", 12)
    for name, regular in (("early", [1, 10, *([11] if every == 11 else []), 12]), ("regular", [10, 12])):
        reports = [report for report in Reports(tmp_path / name / "metrics.jsonl") if report.split == "train"]
        assert [report.step for report in reports] == regular
        assert all(f"grad_norm/{loss}" in report.values for report in reports for loss in problems.LOSSES)
    seconds = Total(Reports(tmp_path / "early" / "speed.jsonl"), 11).seconds
    assert all(seconds.values())  # of every part


def test_training_losses_are_means_since_the_last_report(run):
    _, history, changes = run
    single = problems.run(1, 25, **{key: value for key, value in changes.items() if key.startswith("dataset")})
    first, second, third = (report for report in history if report.split == "train")
    for report, steps in ((first, slice(0, 10)), (second, slice(10, 20)), (third, slice(20, 25))):
        for k, name in enumerate(problems.LOSSES):
            losses = single.losses[steps, k]
            expected = np.nanmean(losses) if not np.all(np.isnan(losses)) else None
            assert report.values[f"loss/{name}"] == pytest.approx(expected, abs=1e-9)


def test_tensorboard_has_the_same_numbers(run):
    path, history, _ = run
    for split in ("train", "validation"):
        (events,) = (path / "tensorboard" / split).iterdir()
        found = {}
        for event in tf.compat.v1.train.summary_iterator(str(events)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    found[event.step, value.tag] = float(tf.make_ndarray(value.tensor))
        expected = {
            (report.step, tensorboard.tag(name)): value
            for report in (*history, *list(Reports(path / "speed.jsonl"))[:-1])
            if report.split == split
            for name, value in report.values.items()
            if value is not None
        }
        assert found == pytest.approx(expected, rel=1e-6)


def test_everything_else_is_there(run):
    path, history, _ = run
    assert {entry.name for entry in path.iterdir()} == {entry.name for entry in workdir.Workdir(path).contents} | {
        "lock"
    }
    assert loading.load_saved(path / "config.json") == problems.config(**run[2])
    report = (path / "report.md").read_text()
    assert "| label | label |" in report
    assert f"{history[-1].values['label/accuracy']:.4g}" in report
    assert "(report.html)" in report
    page = Page((path / "report.html").read_text()).named_rows()
    assert page["label"][1][1] == history[-1].values["loss/label"]
    assert (path / "curves.png").read_bytes().startswith(b"\x89PNG")
    log = (path / "log.txt").read_text()
    assert "25/25  validation" in log
    assert "steps/s" in log


def test_the_checkpoint_evaluates_to_the_final_report(run):
    path, history, _ = run
    config = loading.load_saved(path / "config.json")
    evaluated = evaluate.evaluate(config, workdir.open_run(str(path)), problems.strategy(3), _console())
    assert evaluated.step == 25
    assert evaluated.values == pytest.approx(history[-1].values, abs=1e-9)


def test_checkpoints_name_variables(run):
    path, _, _ = run
    names = [name for name, _ in tf.train.list_variables(str(path / "checkpoints" / "step_00000025" / "variables"))]
    assert any("trunk_0_dense" in name and name.startswith("model/") for name in names)
    assert any("trunk_0_dense" in name and name.startswith("optimizers/shared/") for name in names)
    assert any("head_number_0_dense" in name and name.startswith("optimizers/number/") for name in names)


def test_evaluating_a_run_without_a_checkpoint(run, tmp_path):
    config = loading.load_saved(run[0] / "config.json")
    with pytest.raises(errors.ConfigError, match="holds no checkpoint"):
        evaluate.evaluate(config, workdir.Workdir(tmp_path), problems.strategy(1), _console())


def test_evaluating_a_run_that_removes_the_checkpoint_meanwhile(run, tmp_path, monkeypatch):
    """It was found before the data were read; the run saves another one while they are."""
    path, history, _ = run
    shutil.copytree(path, tmp_path / "run")
    saved = tmp_path / "run" / "checkpoints" / "step_00000025"
    build = experiment.build

    def slow(*arguments):
        saved.rename(saved.with_name("step_00000026"))
        return build(*arguments)

    monkeypatch.setattr(experiment, "build", slow)
    run = workdir.open_run(str(tmp_path / "run"))
    evaluated = evaluate.evaluate(loading.load_saved(run.config), run, problems.strategy(3), _console())
    assert (evaluated.step, evaluated.values) == (26, pytest.approx(history[-1].values, abs=1e-9))


def test_a_terminal_shows_a_bar_and_a_file_shows_lines(tmp_path):
    screen, lines = _console(terminal=True), _console()
    with built_once.building_once():
        for name, console in (("a", screen), ("b", lines)):
            _train(tmp_path / name, console=console, steps=6, report_every=2, eval_every=6, **problems.SIMPLE)
    shown = screen.file.getvalue()
    assert "━" in shown
    assert "6/6" in shown
    assert "steps/s" in shown
    text = lines.file.getvalue()
    assert "\x1b" not in text
    assert "step 2/6  train " in text
    assert "step 6/6  validation  label" in text
    assert (tmp_path / "a" / "log.txt").read_text().count(" train ") == 3


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.ci_only)])
def test_same_seed_same_file(tmp_path, replicas):
    """With masks that are drawn at random; `test_replica_state.py` has one with another seed."""
    changes = {"steps": 12, "report_every": 3, "combine__name": "pcgrad", "precision": "float32"}
    changes |= problems.SIMPLE | {"model__trunk": [{"layer": "Dense", "units": 8}, {"layer": "Dropout", "rate": 0.5}]}
    for name in "ab":
        _train(tmp_path / name, replicas=replicas, seed=1, **changes)
    a, b = ((tmp_path / name / "metrics.jsonl").read_text() for name in "ab")
    assert a == b


def test_variables_spoilt_by_the_last_step_end_the_run(tmp_path):
    """No step comes after it to notice; the final evaluation does, and nothing is saved."""
    rate = {"name": "sgd", "learning_rate": 1e300}
    with pytest.raises(NonFiniteError, match="step 1: loss.* of the validation split became non-finite"):
        _train(tmp_path / "run", steps=1, shared_optimizer=rate)
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert "error: step 1" in (tmp_path / "run" / "log.txt").read_text()


def test_a_step_that_fails_is_one_line(tmp_path):
    """An input beyond an embedding's rows fails within the graph."""
    embedding = [{"layer": "Embedding", "input_dim": 3, "output_dim": 2}, {"layer": "Flatten"}]
    with pytest.raises(RunError, match=r"^after step 0: InvalidArgumentError: .*is not in \[0, 3\)$"):
        _train(tmp_path / "run", dataset__name="tests.trainer.run.test_loop:words", model__trunk=embedding)
    assert "error: after step 0" in (tmp_path / "run" / "log.txt").read_text()


def words(**options):
    return {
        split: dataclasses.replace(examples, inputs=np.arange(len(examples) * 6).reshape(-1, 6) % 5)
        for split, examples in problems.load(**options).items()
    }


def test_checkpoints_hold_every_optimizer(tmp_path):
    names = dict(zip(problems.LOSSES, ("adafactor", "adamw", "lion", "nadam"), strict=True))
    optimizers = {f"losses__{loss}__optimizer": {"name": name, "learning_rate": 0.01} for loss, name in names.items()}
    changes = {"precision": "float32", "combine__apply": "per_loss", "losses__number__optimizer__weight_decay": 0.0}
    _train(tmp_path / "run", steps=1, **optimizers, **changes)
    saved = tf.train.list_variables(str(tmp_path / "run" / "checkpoints" / "step_00000001" / "variables"))
    groups = experiment.build(problems.config(**optimizers, **changes), problems.strategy(1)).optimizer_groups
    assert [group.name for group in groups] == list(names)
    for group in groups:
        found = sum(name.startswith(f"optimizers/{group.name}/") for name, _ in saved)
        assert found == len(group.optimizer.variables), names[group.name]


def test_bad_configurations_leave_nothing(tmp_path):
    with pytest.raises(errors.ConfigError):
        _train(tmp_path / "run", losses__number__target="nothing")
    assert not (tmp_path / "run").exists()


@pytest.mark.ci_only
def test_float32_replicas_matter_less_than_seeds(tmp_path):
    """On the digits, 1 and 2 replicas are closer to each other than any two of three seeds are."""
    curves = {}
    for replicas, seed in ((1, 0), (2, 0), (1, 1), (1, 2)):
        overrides = [("seed", str(seed)), ("steps", "60"), ("report_every", "1"), ("eval_every", "60")]
        config, path = loading.load(DIGITS, overrides), str(tmp_path / f"{replicas}_{seed}")
        reports = [r for r in train.train(config, path, problems.strategy(replicas), _console()) if r.split == "train"]
        curves[replicas, seed] = np.array([[r.values[f"loss/{name}"] for name in config.losses] for r in reports])
    between_replicas = np.abs(curves[1, 0] - curves[2, 0]).max(axis=0)
    seeds = [curves[1, seed] for seed in range(3)]
    between_seeds = np.max([np.abs(seeds[i] - seeds[j]).max(axis=0) for i in range(3) for j in range(i)], axis=0)
    assert np.all(between_replicas < between_seeds)


@pytest.mark.ci_only
def test_profile(tmp_path):
    """A trace of the steps asked for lies where TensorBoard looks; the numbers stay as they were."""
    config = problems.config(steps=6, report_every=2)
    for name, profile in (("plain", None), ("profiled", (3, 4))):
        train.train(config, str(tmp_path / name), problems.strategy(1), _console(), profile=profile)
    (trace,) = (tmp_path / "profiled" / "tensorboard" / "plugins" / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 0
    rows = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("plain", "profiled")]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("profile", [(6, 7), (7, 9)])
def test_profiling_steps_that_do_not_come(tmp_path, profile):
    with pytest.raises(errors.ConfigError, match=r"--profile='\d:\d'.*1 to 6"):
        train.train(problems.config(steps=6), str(tmp_path / "run"), problems.strategy(1), _console(), profile=profile)
    assert not (tmp_path / "run").exists()


def test_learning_rates_are_reported(tmp_path):
    """Every optimizer's rate is that of the next update, by its schedule where it has one."""
    cosine = {"name": "cosine_decay", "initial_learning_rate": 0.01, "decay_steps": 10}
    history = _train(
        tmp_path / "run", steps=5, report_every=5, losses__number__optimizer={"name": "sgd", "learning_rate": cosine}
    )
    values = next(report.values for report in history if report.split == "train")
    assert values["learning_rate/shared"] == pytest.approx(0.01)
    assert values["learning_rate/number"] == pytest.approx(0.01 * 0.5 * (1 + np.cos(np.pi / 2)), rel=1e-6)
