"""Predictions of runs whose data come from a function, or from several sources."""

import shutil
from typing import Any

import numpy as np
import pytest

import trainer
from tests import problems
from tests.trainer.predict import tables


def test_runs_of_functions(tmp_path):
    """Their splits can be predicted, and arrays of inputs; a file cannot."""
    tree = problems.tree(steps=1, precision="float32", **problems.SIMPLE)
    run = trainer.train(tree, tmp_path / "run", strategy="one_device", allow_cpu=True, progress=False)
    inputs = problems.load()["validation"].inputs
    by_split, by_arrays = run.predict("validation", heads=True), run.predict(data=inputs, heads=True)
    assert by_split["vector"].shape == (29, 3)
    for name, values in by_split.items():
        np.testing.assert_array_equal(values, by_arrays[name], err_msg=name)
    outputs = run.model.predict(inputs.astype("float32"), verbose=0)
    np.testing.assert_allclose(by_split["head/vector"], outputs["vector"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(by_split["label"], outputs["label"].argmax(-1))
    for options, words in (
        ({"data": "new.csv"}, "come from a function, 'tests.problems:load'"),
        ({"split": "test"}, "unknown split"),
        ({"data": inputs[:, :2]}, r"must be numbers, \[6\] for each row"),
        ({"split": "train", "keep": ["id"]}, "arrays that a function gives have none"),
    ):
        with pytest.raises(trainer.ConfigError, match=words):
            run.predict(**options)


@pytest.mark.ci_only
def test_one_of_several_sources(tmp_path):
    """Its rows are read as its own files were; losses of other sources have no label in an evaluation of them."""
    for source in "ab":
        (tmp_path / source).mkdir()
        for seed, split in enumerate(("train", "validation")):
            frame = tables.people(64, seed).rename(columns={"price": f"price_{source}"})
            frame.to_csv(tmp_path / source / f"{split}.csv", index=False)

    def part(source: str) -> dict[str, Any]:
        inputs = {"numbers": {"feature": ["age", "income"], "prepare": ["standardise"]}}
        targets = {f"price_{source}": {"prepare": ["standardise"]}}
        return {"quota": 1, "name": "csv", "path": str(tmp_path / source), "inputs": inputs, "targets": targets}

    names = ("price_a", "price_b")
    tree = {
        "steps": 5,
        "batch_size": 16,
        "dataset": {"sources": {source: part(source) for source in "ab"}},
        "model": {
            "trunk": [{"layer": "Dense", "units": 4}],
            "heads": {name: [{"layer": "Dense", "units": 1}] for name in names},
        },
        "losses": {name: {"loss": "mse"} for name in names},
        "optimizer": "adam",
    }
    run = trainer.train(tree, tmp_path / "run", strategy="one_device", allow_cpu=True, progress=False)
    evaluated, by_split = run.evaluate(), run.predict("validation", source="b", keep=["id"])
    shutil.move(tmp_path / "b", tmp_path / "moved")
    new = tmp_path / "moved" / "validation.csv"
    by_file = run.predict(data=new, source="b", keep=["id"])
    for name, values in by_split.items():
        np.testing.assert_array_equal(values, by_file[name], err_msg=name)
    found = run.evaluate(data=new, source="b")
    assert found["loss/price_b"] == pytest.approx(evaluated["loss/price_b"], rel=1e-6)
    assert (found["loss/price_a"], found["labels/price_a"]) == (None, 0)
    with pytest.raises(trainer.ConfigError, match=r"the run has several sources \(a, b\)"):
        run.predict(data=new)
