"""Predictions of a trained run: the numbers of its evaluation, every row once, in files that are whole or not there."""

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

import trainer
from tests import forked, problems
from tests.trainer.predict import tables
from trainer.components.prediction_parts import Output
from trainer.predict import table, writers

ROWS = 101
FLAGS = ("--strategy=one_device", "--allow_cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """A folder with a run, in which nothing is left of the data that it was trained on, and a file of new rows."""
    root = tmp_path_factory.mktemp("predict")
    (root / "data").mkdir()
    for seed, (split, count) in enumerate({"train": 300, "validation": 40, "test": ROWS}.items()):
        tables.people(count, seed).to_csv(root / "data" / f"{split}.csv", index=False)
    dense = [{"layer": "Dense", "units": 8, "activation": "tanh"}]
    tree = {
        "steps": 30,
        "batch_size": 32,
        "eval_every": 10,
        "best": {"metric": "loss/price"},
        "ema": 0.5,
        "dataset": {
            "name": "csv",
            "path": str(root / "data"),
            "splits": {split: f"{split}.csv" for split in ("train", "validation", "test")},
            "inputs": {
                "numbers": {"feature": ["age", "income"], "prepare": ["standardise"]},
                "city": {"prepare": ["categories"]},
            },
            "targets": {"price": {"prepare": ["standardise"]}, "kind": {"prepare": ["classes"]}, "rich": {}},
        },
        "model": {
            "trunk": dense,
            "heads": {
                name: [{"layer": "Dense", "units": units}] for name, units in {"price": 1, "kind": 3, "rich": 1}.items()
            },
        },
        "losses": {
            "price": {"loss": "mse"},
            "kind": {
                "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True},
                "metrics": ["accuracy"],
            },
            "rich": {"loss": {"name": "binary_crossentropy", "from_logits": True}},
        },
        "optimizer": {"name": "adam", "learning_rate": 0.02},
    }
    run = trainer.train(tree, root / "run", strategy="one_device", allow_cpu=True, progress=False)
    evaluated = run.evaluate("test")
    (root / "evaluated.json").write_text(json.dumps(evaluated))
    shutil.move(root / "data" / "test.csv", root / "new.csv")
    shutil.rmtree(root / "data")
    return root


@pytest.fixture(scope="module")
def run(folder) -> trainer.Run:
    return trainer.load_run(folder / "run")


@pytest.fixture(scope="module")
def predicted(run, folder) -> dict[str, np.ndarray]:
    """Name → predicted array of all rows, with the heads."""
    return run.predict(data=folder / "new.csv", keep=["id"], heads=True)


def test_metrics_of_the_file_are_those_of_the_evaluation(folder, run, predicted):
    """Computed by scikit-learn from predictions in the targets' own units and words, from averaged variables."""
    truth, evaluated = pd.read_csv(folder / "new.csv"), json.loads((folder / "evaluated.json").read_text())
    deviation = np.std(tables.people(300, 0)["price"])
    mse = sklearn.metrics.mean_squared_error(truth["price"], predicted["price"]) / deviation**2
    assert mse == pytest.approx(evaluated["loss/price"], rel=1e-6)
    accuracy = sklearn.metrics.accuracy_score(truth["kind"], predicted["kind"])
    assert accuracy == pytest.approx(evaluated["kind/accuracy"], abs=1e-6)
    kinds = ["north", "old", "south"]
    shares = predicted["kind/probability"].astype(np.float64)
    entropy = sklearn.metrics.log_loss(truth["kind"], shares / shares.sum(axis=1, keepdims=True), labels=kinds)
    assert entropy == pytest.approx(evaluated["loss/kind"], rel=1e-6)
    entropy = sklearn.metrics.log_loss(truth["rich"], predicted["rich/probability"].astype(np.float64))
    assert entropy == pytest.approx(evaluated["loss/rich"], rel=1e-6)
    assert run.evaluate(data=folder / "new.csv") == {**evaluated, "split": "data"}


def test_every_row_once_in_order(folder, run, predicted):
    """Whatever the batches and the replicas are; columns that are kept stand beside their own row."""
    assert predicted["row"].tolist() == list(range(ROWS))
    assert predicted["id"].tolist() == [f"row {index}" for index in range(ROWS)]
    model = run.model
    assert predicted["head/kind"].shape == (ROWS, model.output["kind"].shape[-1])
    frame = pd.read_csv(folder / "new.csv").drop(columns=["price", "kind", "rich"])
    for options in ({"batch_size": 7}, {"batch_size": 40, "strategy": problems.strategy(3)}):
        again = run.predict(data=frame, **options)
        for name, values in again.items():
            if values.dtype.kind == "f":
                np.testing.assert_allclose(values, predicted[name], rtol=1e-6, atol=1e-6, err_msg=name)
            else:
                np.testing.assert_array_equal(values, predicted[name], err_msg=name)
    few = run.predict(data=frame[:2], strategy=problems.strategy(3))  # fewer than replicas
    np.testing.assert_allclose(few["price"], predicted["price"][:2], rtol=1e-6)


def test_the_best_checkpoint_and_plain_variables(folder, predicted):
    """They are asked for as of a run's model."""
    for options in ({"best": True}, {"averaged": False}):
        loaded = trainer.load_run(folder / "run", **options)
        given = loaded.predict(data=folder / "new.csv", heads=True)
        evaluated = loaded.evaluate(data=folder / "new.csv") if options == {"best": True} else None
        if evaluated is not None:
            step = min(
                (row for row in loaded.history if row["split"] == "validation"), key=lambda row: row["loss/price"]
            )["step"]
            assert evaluated["step"] == step
        else:
            assert np.abs(given["price"] - predicted["price"]).max() > 1e-3


def _columns(path: pathlib.Path) -> dict[str, Any]:
    if path.suffix == ".npz":
        with np.load(path) as file:
            return dict(file)
    frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    return {name: frame[name].to_numpy() for name in frame}


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".npz"])
def test_files(folder, run, predicted, ending, monkeypatch):
    """Hold what is returned without them; a table has a column for each number of a vector, named by its class."""
    monkeypatch.setattr(writers, "_GROUP_ROWS", 30)  # so that a file is written in parts
    path = folder / f"predictions{ending}"
    assert run.predict(data=folder / "new.csv", keep=["id"], heads=True, output=path, batch_size=16) == path
    found = _columns(path)
    for index, kind in enumerate(("north", "old", "south")) if ending != ".npz" else ():
        np.testing.assert_allclose(
            found.pop(f"kind/probability/{kind}"), predicted["kind/probability"][:, index], rtol=1e-6
        )
        np.testing.assert_allclose(found.pop(f"head/kind/{index}"), predicted["head/kind"][:, index], rtol=1e-5)
    for name, values in found.items():
        if predicted[name].dtype.kind == "f":
            np.testing.assert_allclose(values, predicted[name].reshape(values.shape), rtol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(values, predicted[name], err_msg=name)
    with pytest.raises(trainer.ConfigError, match="exists; --overwrite replaces it"):
        run.predict(data=folder / "new.csv", output=path)


def test_an_npz_file_holds_arrays_of_any_name(tmp_path):
    """`file`, which stands beside predictions for folders of pictures, is an argument of `numpy.savez`."""
    output = Output("kind/value", (), "float32", ("kind/value",), (), "")
    with writers.writing(tmp_path / "table.npz", [output]) as writer:
        writer.add(0, {"kind/value": np.float32([1, 2])}, {"file": np.array([b"a.png", b"b.png"], object)})
    found = _columns(tmp_path / "table.npz")
    assert {name: values.tolist() for name, values in found.items()} == {
        "row": [0, 1],
        "file": ["a.png", "b.png"],
        "kind/value": [1, 2],
    }


def test_a_row_that_cannot_be_read_leaves_no_file(folder, run):
    """Nor does it touch the one that was there."""
    broken = pd.read_csv(folder / "new.csv")
    broken["age"] = broken["age"].astype(object)
    broken.loc[90, "age"] = "young"
    broken.to_csv(folder / "broken.csv", index=False)
    (folder / "old.csv").write_text("kept")
    before = sorted(folder.iterdir())
    with pytest.raises(trainer.ConfigError, match=r"row 92, column 'age'.*holds 'young'"):
        run.predict(data=folder / "broken.csv", output=folder / "old.csv", overwrite=True, batch_size=8)
    assert sorted(folder.iterdir()) == before
    assert (folder / "old.csv").read_text() == "kept"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "--split: is missing"),
        ({"split": "validation", "data": "new.csv"}, "cannot be beside --data"),
        ({"data": "nowhere.csv"}, "--data='nowhere.csv': does not exist"),
        ({"data": "new.csv", "keep": ["idd"]}, "--keep='idd': unknown column; did you mean 'id'"),
        ({"data": "new.csv", "keep": ["price"]}, "--keep='price': is what a column of the predictions is called"),
        ({"data": "new.csv", "source": "a"}, "--source='a': is for runs with several"),
        ({"data": [1, 2]}, "data='list': must be the path of a file or folder, a frame of pandas"),
        ({"data": "new.csv", "output": "table.xlsx"}, "--output='table.xlsx': must end in"),
        ({"data": "new.csv", "output": "nowhere/table.csv"}, "is in a folder that does not exist"),
    ],
)
def test_refusals(folder, run, monkeypatch, options, words):
    monkeypatch.chdir(folder)
    with pytest.raises(trainer.ConfigError, match=words):
        run.predict(**options)


def test_a_loss_cannot_be_called_as_the_rows_places_are():
    with pytest.raises(trainer.ConfigError, match="losses.row"):
        table.check_names([Output("row", (), "float32", ("row",), (), "")], (), flat=False)


def test_the_command(folder, run):
    """It writes what the function gives and says what that is; mistakes are one line and exit code 2."""
    arguments = ("--workdir=run", "--data=new.csv", "--keep=id", "--output=by_command.parquet", *FLAGS)
    done = forked.run("trainer.predict", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "by_command.parquet: 101 rows" in done.stdout
    assert "kind/probability/north" in done.stdout
    found = _columns(folder / "by_command.parquet")
    np.testing.assert_allclose(found["price"], run.predict(data=folder / "new.csv")["price"], rtol=1e-6)
    for flags, words in (
        (arguments, "--output='by_command.parquet': exists"),
        (("--workdir=run", "--data=new.csv", "--output=x.csv", "--strategy=multi_worker"), "is for training"),
        (("--workdir=run", "--output=x.csv"), "--split: is missing"),
    ):
        refused = forked.run("trainer.predict", *flags, cwd=folder)
        assert (refused.returncode, refused.stdout) == (2, ""), refused.stdout
        assert words in refused.stderr
        assert refused.stderr.count("\n") == 1


@pytest.mark.ci_only
def test_evaluation_of_a_file_by_command(folder):
    flags = ("--mode=eval", "--workdir=run", "--data=new.csv", "--checkpoint=best", *FLAGS)
    done = forked.run("trainer.main", *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "new.csv" in done.stdout
    assert "accuracy" in done.stdout
    for extra, words in (("--split=test", "cannot be beside --data"), ("--data=nowhere.csv", "does not exist")):
        refused = forked.run("trainer.main", *flags, extra, cwd=folder)
        assert refused.returncode == 2
        assert words in refused.stderr
