"""`trainer.compare` from Python."""

import json

import keras
import pytest

import trainer
from tests import problems
from trainer.common.errors import ConfigError


@pytest.mark.ci_only
def test_a_configuration_with_objects(tmp_path, monkeypatch):
    """It is trained in this process, and the runs are what `train` gives."""
    monkeypatch.chdir(tmp_path)
    tree = problems.tree(**problems.SIMPLE, best={"metric": "loss/number"})
    tree["shared_optimizer"] = keras.optimizers.SGD(0.03)
    given = {"seeds": 2, "workdir": "all", "timed_steps": 0, "steps": 6, "eval_every": 3}
    compared = trainer.compare(tree | {"losses": _two(tree)}, "mgda", progress=False, **given)
    assert compared.failed == []
    assert [run.path.parent.name for run in compared.runs] == ["mgda", "mgda"]
    assert compared.results == json.loads(compared.report.with_name("results.json").read_text())
    run = compared.runs[1]
    assert (run.config["seed"], run.config["combine"]["name"], run.history[-1]["step"]) == (1, "mgda", 6)
    assert run.config["shared_optimizer"]["learning_rate"] == 0.03
    alone = trainer.train(tree | {"losses": _two(tree)}, "alone", combine="mgda", seed=1, steps=6, eval_every=3)
    assert alone.history == run.history
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "all").rglob("metrics.jsonl")}
    again = trainer.compare(tree | {"losses": _two(tree)}, "mgda", progress=False, **given)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.results["cells"] == compared.results["cells"]


def _two(tree):
    return {name: tree["losses"][name] for name in ("label", "number")}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"combine": ["sum", "pcgard"]}, "did you mean 'pcgrad'"),
        ({"seeds": 0}, "seeds=0: must be a whole number of at least 1"),
        ({"vary": {"steps": [keras.optimizers.SGD()]}}, "must be plain"),
        ({"vary": {"seed": [1, 2]}}, "is for"),
        ({"vary": {"steps": []}}, "needs at least one value"),
        ({"vary": {"config.seed": [1, 2]}}, "vary='seed': is for --seeds"),
        ({"vary": {"steps": "12"}}, "vary.steps='12': must be a list of values"),
        ({"vary": ["steps"]}, "must be a dictionary of keys"),
        ({"combine": len}, "a function's is its import path"),
        ({"combine": ["sum", len]}, "a function's is its import path"),
        ({"single_task": "no"}, "single_task='no'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"strategy": "multi_worker"}, "strategy"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(tmp_path, monkeypatch, given, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words):
        trainer.compare(problems.tree(), workdir="all", **given)
    assert list(tmp_path.iterdir()) == []
