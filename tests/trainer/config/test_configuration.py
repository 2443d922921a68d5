"""Configuration files, overrides, durations, and what is wrong with them."""

import dataclasses
import json
import pathlib

import pytest

from tests import problems
from trainer.common import durations
from trainer.common.errors import ConfigError
from trainer.config import loading, settings
from trainer.output import workdir

DIGITS = str(pathlib.Path(__file__).parents[3] / "configs" / "digits.py")


def _digits(*overrides: str) -> settings.Config:
    return loading.load(DIGITS, [tuple(override.split("=", 1)) for override in overrides])


def test_order_is_as_written():
    """A ConfigDict iterates alphabetically; losses are applied and reported in the order they are written."""
    config = _digits()
    assert list(config.losses) == ["digit", "redraw", "ink"]
    assert list(config.model.heads) == ["digit", "image", "ink"]


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("batch_size=512", lambda c: c.batch_size, 512),
        ("steps='20 epochs'", lambda c: c.steps, "20 epochs"),
        ("steps=500", lambda c: c.steps, 500),
        ("clip_norm=1e-2", lambda c: c.clip_norm, 0.01),
        ("clip_norm=none", lambda c: c.clip_norm, None),
        ("precision=float64", lambda c: c.precision, "float64"),
        ("losses.ink.weight=2", lambda c: c.losses["ink"].weight, 2.0),
        ("losses.ink.metrics=['mae','mse']", lambda c: [m["name"] for m in c.losses["ink"].metrics], ["mae", "mse"]),
        ("losses.ink.loss.name=huber", lambda c: c.losses["ink"].loss, {"name": "huber"}),
        ("losses.ink.optimizer.momentum=0.5", lambda c: c.losses["ink"].optimizer["momentum"], 0.5),
        ("losses.ink.optimizer.learning_rate=0.1", lambda c: c.losses["ink"].optimizer["learning_rate"], 0.1),
        ("shared_optimizer=sgd", lambda c: c.shared_optimizer, {"name": "sgd"}),
        ("model.trunk.0.filters=8", lambda c: c.model.trunk[0]["filters"], 8),
        ("combine.normalized.per_variable=true", lambda c: c.combine.normalized.per_variable, True),
        ("init_from=runs/a", lambda c: (c.init_from.path, c.init_from.only), ("runs/a", ["*"])),
        ("init_from={'path': 'a', 'rename': {'x/*': 'y/*'}}", lambda c: c.init_from.rename, {"x/*": "y/*"}),
        ("freeze=trunk*", lambda c: c.freeze, ["trunk*"]),
        ("combine.name=pcgrad", lambda c: (c.combine.name, c.combine.apply), ("pcgrad", "joint")),
        ("combine.name=independent", lambda c: (c.combine.name, c.combine.apply), ("independent", "per_loss")),
    ],
)
def test_overrides(override, read, value):
    assert read(_digits(override)) == value


def test_an_override_below_a_path():
    config = _digits("init_from=runs/a", "init_from.skip_mismatched=true")
    assert (config.init_from.path, config.init_from.skip_mismatched) == ("runs/a", True)


@pytest.mark.parametrize(
    ("override", "field", "words"),
    [
        ("batch_size=0", "batch_size", "at least 1"),
        ("batch_size=1.5", "batch_size", "whole number"),
        ("batch_size=true", "batch_size", "whole number"),
        ("batch_sze=3", "batch_sze", "did you mean 'batch_size'"),
        ("gradients=features", "gradients", "did you mean 'reduction'"),
        ("steps=0", "steps", "at least 1 step"),
        ("steps=-5", "steps", "at least 1 step"),
        ("steps='3 weeks'", "steps", "epochs"),
        ("eval_every=0", "eval_every", "at least 1 step"),
        ("report_every='0 epochs'", "report_every", "at least 1 step"),
        ("steps_per_loop=0", "steps_per_loop", "at least 1"),
        ("seed=-1", "seed", "at least 0"),
        ("precision=float12", "precision", "float32, float64"),
        ("clip_norm=-1", "clip_norm", "above 0"),
        ("clip_norm=0", "clip_norm", "above 0"),
        ("clip_norm=nan", "clip_norm", "finite"),
        ("dataset.name=digit", "dataset.name", "did you mean 'digits'"),
        ("dataset.name=5", "dataset.name", "string"),
        ("model.name=resnet", "model.name", "trunk_and_heads"),
        ("model.heads=none", "model.heads", "missing"),
        ("model.trunk.9.filters=1", "--config.model.trunk.9.filters", "not a position in a list of 6"),
        ("losses={}", "losses", "at least one loss"),
        ("losses.cosine.head=ink", "losses.cosine", "cannot have this name"),
        ("losses.segment.head=ink", "losses.segment", "cannot have this name, which is kept for reports"),
        ("losses.ink.weight=1" + 400 * "0", "losses.ink.weight", "finite"),
        ("steps=1" + 400 * "0", "steps", "epochs"),
        ("dataset.name={[1]: 2}", "dataset.name", "unknown dataset"),
        ("model.trunk.².filters=1", "--config.model.trunk.².filters", "not a position"),
        ("losses.ink=none", "losses.ink", "dictionary"),
        ("losses.ink.head=digt", "losses.ink.head", "did you mean 'digit'"),
        ("losses.ink.target=3", "losses.ink.target", "string"),
        ("losses.new.head=ink", "losses.new.loss", "missing"),
        ("losses.ink.reads={}", "losses.ink.reads", "dictionary from arguments"),
        ("losses.ink.reads={'y': 'head.ink'}", "losses.ink.reads.y", "heads.<name>"),
        ("losses.ink.reads={'y': 'targets'}", "losses.ink.reads.y", "targets.<name>"),
        ("losses.ink.reads={'derivative': 'heads.ink'}", "losses.ink.reads.derivative", "given those"),
        (
            "losses.n={'loss': 'mse', 'reads': {'y': 'inputs'}, 'metrics': 'mae'}",
            "losses.n.metrics",
            "metrics.<name>",
        ),
        ("losses.new={'loss': 'mse', 'reads': {'y_true': 'heads.inc'}}", "losses.new.reads.y_true", "'heads.ink'"),
        ("losses.new={'loss': 'mse', 'reads': {'y': 'heads.ink'}, 'head': 'ink'}", "losses.new.head", "in place of"),
        ("losses.new={'from': 'model', 'loss': 'mse'}", "losses.new.loss", "beside losses.new.from"),
        ("metrics.ink.metrics=mae", "metrics.ink", "name of a loss"),
        ("metrics.area.metrics=mae", "metrics.area.head", "unknown head"),
        ("metrics.area.head=ink", "metrics.area.metrics", "at least one"),
        ("metrics.segment.metrics=mae", "metrics.segment", "kept for reports"),
        ("losses.ink.weight=-1", "losses.ink.weight", "at least 0"),
        ("losses.ink.weight=inf", "losses.ink.weight", "finite"),
        ("losses.ink.normalizer=batch", "losses.ink.normalizer", "weights"),
        ("losses.ink.optimizer=[]", "losses.ink.optimizer", "arguments alone"),
        ("losses.ink.optimizer.learning_rate=-1", "losses.ink.optimizer.learning_rate", "at least 0"),
        (
            "losses.ink.optimizer.learning_rate.initial_learning_rate=-1",
            "losses.ink.optimizer.learning_rate.initial_learning_rate",
            "at least 0",
        ),
        ("init_from=3", "init_from", "a path, or a dictionary with 'path'"),
        ("init_from.only=trunk*", "init_from.path", "missing"),
        ("init_from={'path': 'a', 'rename': {'x*': 'y'}}", "init_from.rename.x*", "as many '*' as the pattern 'x*'"),
        ("init_from={'path': 'a', 'rename': ['x*']}", "init_from.rename", "a dictionary from patterns"),
        ("freeze=[3]", "freeze.0", "must be a name"),
        ("combine.name=pcgrd", "combine.name", "did you mean 'pcgrad'"),
        ("combine.apply=both", "combine.apply", "joint, per_loss"),
        ("combine.pcgrad.alpha=1", "combine.pcgrad", "unknown key"),
        ("combine.normalized.per_varible=1", "combine.normalized.per_varible", "did you mean 'per_variable'"),
        ("combine.use_weights=true", "combine.use_weights", "already"),
        ("seed.low=1", "--config.seed.low", "is a value"),
        ("jit_compile=true", "jit_compile", "did you mean 'compile'"),
        ("compile=true", "compile", "off, passes"),
        ("dataset.options={1: 2}", "dataset.options", "identifier"),
    ],
)
def test_bad_values_are_named(override, field, words):
    with pytest.raises(ConfigError) as caught:
        _digits(override)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_combinations_of_values():
    with pytest.raises(ConfigError, match="combine.apply='joint': 'independent' is always applied per loss"):
        _digits("combine.name=independent", "combine.apply=joint")
    with pytest.raises(ConfigError, match="at least one loss must have a weight above 0"):
        _digits(*(f"losses.{name}.weight=0" for name in ("digit", "redraw", "ink")))
    with pytest.raises(ConfigError, match="--combine='pcgrd'"):
        loading.load(DIGITS, combine="pcgrd")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config(:\n", "SyntaxError: invalid syntax (line 1)"),
        ("x = 1\nraise RuntimeError('no\\nluck')\n", "RuntimeError: no (line 2)"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3 (line 2)"),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module' (line 1)"),
        ("x = 1\n", "must define get_config()"),
        ("get_config = 1\n", "must define get_config()"),
        ("def get_config():\n  return {'steps': 1}\n", "must return an ml_collections.ConfigDict, not dict"),
        ("def get_config():\n  return 1 / 0\n", "get_config() raised ZeroDivisionError: division by zero (line 2)"),
        (
            "import ml_collections as m\ndef get_config():\n"
            "  return m.ConfigDict({'steps': m.config_dict.required_placeholder(int)})\n",
            "incomplete configuration",
        ),
        ("def get_config(size):\n  pass\n", "get_config() raised TypeError"),
    ],
)
def test_bad_files_are_named(tmp_path, text, words):
    path = tmp_path / "experiment.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        loading.load(str(path))
    assert caught.value.field == "--config"
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["nothing.py", "."])
def test_missing_files_are_named(path):
    with pytest.raises(ConfigError, match="must be an existing Python file"):
        loading.load(path)


def test_values_that_cannot_be_saved_are_named():
    with pytest.raises(ConfigError, match=r"losses.label.loss.function=.*name a function by import path"):
        loading.resolve(problems.tree(losses__label__loss={"name": "mse", "function": len}))


def test_saved_configurations_resolve_to_themselves(tmp_path):
    config = _digits("combine.name=independent", "clip_norm=1.0")
    loading.save(config, tmp_path / "config.json")
    again = loading.load_saved(tmp_path / "config.json")
    assert again == config
    assert list(again.losses) == list(config.losses)
    assert dataclasses.asdict(loading.load_saved(tmp_path / "config.json", [("seed", "4")])) == dataclasses.asdict(
        dataclasses.replace(config, seed=4)
    )


@pytest.mark.parametrize(("before", "now"), [(True, "passes"), (False, "off")])
def test_saved_configurations_with_an_earlier_name(tmp_path, before, now):
    tree = json.loads(loading.to_json(_digits(f"compile={now}")))
    del tree["compile"]
    (tmp_path / "config.json").write_text(json.dumps(tree | {"jit_compile": before}))
    assert loading.load_saved(tmp_path / "config.json") == _digits(f"compile={now}")
    assert loading.load_saved(tmp_path / "config.json", [("compile", "off")]) == _digits()
    del tree["format"]
    assert loading.resolve_saved(tree | {"jit_compile": before}) == _digits(f"compile={now}")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "holds a run of format 1, made before variables were named by their place in the model; start a new"),
        (1, "holds a run of format 1, made before variables"),
        (2, "holds a run of format 2, made when `gradients` was a key"),
        (3, "holds a run of format 3, made before checkpoints had checksums"),
        (5, "holds a run of format 5, made by another version than this one; start a new run"),
        ([], r"holds a run of format \[\], made by another version"),
    ],
)
def test_runs_of_another_format_are_refused_and_left_alone(tmp_path, given, words):
    config, run = _digits(), tmp_path / "run"
    run.mkdir()
    tree = json.loads(loading.to_json(config))
    assert tree.pop("format") == 4
    (run / "config.json").write_text(json.dumps(tree if given is None else {"format": given, **tree}))
    for refused in (lambda: loading.load_saved(run / "config.json"), lambda: workdir.claim(str(run), config)):
        with pytest.raises(ConfigError, match=words) as caught:
            refused()
        assert str(caught.value).startswith(f"--workdir='{run}': holds")
    assert [path.name for path in run.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        (7, 7),
        ("7", 7),
        ("7 steps", 7),
        ("1 epoch", 13),
        ("2 epochs", 25),
        ("0.5 epochs", 7),
        ("1 example", 1),
        ("100 examples", 13),
        ("96 examples", 12),
    ],
)
def test_durations(value, steps):
    assert durations.to_steps(durations.check(value, "steps"), batch_size=8, examples=100) == steps


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "", "epoch", "-1 epochs", "1.5 steps", "3 4", [1]])
def test_bad_durations(value):
    with pytest.raises(ConfigError):
        durations.check(value, "steps")


class _WithoutText(str):
    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__
    __hash__ = str.__hash__


def _nested(levels: int) -> list:
    value = [1]
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("name", ["nested", "deeper", "itself", "number", "text", "key", "object"])
def test_values_that_no_run_could_save_and_read_again(name):
    """Also where they have no text of their own that the message could show."""
    itself = {"name": "adam"}
    itself["x"] = itself
    values = {
        "nested": {"name": "adam", "x": _nested(101)},
        "deeper": _nested(100_000),
        "itself": itself,
        "number": {"name": "adam", "x": 10**5000},
        "text": _WithoutText(" "),
        "key": {_WithoutText("name"): 3},
        "object": type("Odd", (), {"__repr__": _WithoutText.__repr__})(),
    }
    with pytest.raises(ConfigError) as error:
        loading.resolve(problems.tree(shared_optimizer=values[name]))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600
