"""The preset `census_income` on the real data, where they lie beside the repository."""

import csv
import dataclasses
import functools
import gzip
import io
import json
import pathlib
import resource

import keras
import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from configs import census_income
from input_pipelines import data
from input_pipelines.data import Data
from tests import problems
from tests.trainer.test_main import run
from trainer.common.errors import ConfigError
from trainer.components import losses, metrics
from trainer.config import loading
from trainer.config.settings import Config
from trainer.run import experiment, train

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT.parent / "shared" / "data" / "census_income"
LEAST = {"income/auc": 0.947, "marital_status/auc": 0.994}
SEEDS, MOST_SECONDS = (0, 1, 2), 60
FILES = {"train": "train.csv.gz", "validation": "test.csv.gz"}
on_the_real_data = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the Census-Income data are not in ../{FOLDER.relative_to(ROOT.parent)}"
)


def _config(**overrides: str) -> Config:
    given = {"dataset.path": str(FOLDER)} | overrides
    return loading.load(f"{ROOT}/configs/census_income.py", list(given.items()))


@functools.cache
def _data() -> Data:
    return data.build(_config().dataset)


@functools.cache
def _column(split: str, name: str) -> np.ndarray:
    with gzip.open(FOLDER / FILES[split], "rt", newline="") as file:
        return np.array([row[name].strip() for row in csv.DictReader(file)])


def test_the_folder_must_be_given():
    with pytest.raises(ConfigError, match=r"dataset\.path: is missing"):
        loading.load(f"{ROOT}/configs/census_income.py")


def test_neither_targets_nor_weights_are_inputs():
    used = [*census_income.NUMBERS, *census_income.MONEY, *census_income.CATEGORIES]
    assert len(used) == len(set(used)) == 39
    assert not {"income_50k", "marital_stat", "instance_weight"} & set(used)


@on_the_real_data
def test_every_other_column_is_an_input():
    with gzip.open(FOLDER / FILES["train"], "rt") as file:
        header = file.readline().strip().split(",")
    used = {*census_income.NUMBERS, *census_income.MONEY, *census_income.CATEGORIES}
    assert used == set(header) - {"income_50k", "marital_stat", "instance_weight"}


@on_the_real_data
@pytest.mark.ci_only
@pytest.mark.parametrize(("split", "rows"), [("train", 199_523), ("validation", 99_762)])
def test_targets_are_those_of_the_paper(split, rows):
    targets = _data().splits[split].examples.targets
    assert {name: values.shape for name, values in targets.items()} == {"income": (rows,), "marital_status": (rows,)}
    np.testing.assert_array_equal(targets["income"], _column(split, "income_50k") == "50000+.")
    np.testing.assert_array_equal(targets["marital_status"], _column(split, "marital_stat") == "Never married")
    assert targets["income"].mean() == pytest.approx(0.062, abs=5e-4)
    assert targets["marital_status"].mean() == pytest.approx(0.434, abs=2e-3)


@on_the_real_data
@pytest.mark.ci_only
def test_inputs_are_made_with_what_training_rows_show():
    train, validation = (_data().splits[split] for split in FILES)
    inputs = validation.examples.inputs
    gains = np.log1p(_column("train", "capital_gains").astype(float))
    expected = (np.log1p(_column("validation", "capital_gains").astype(float)) - gains.mean()) / gains.std()
    at = census_income.MONEY.index("capital_gains")
    np.testing.assert_allclose(inputs["money"][:, at], expected, rtol=1e-4, atol=1e-5)
    names, counts = np.unique(_column("train", "education"), return_counts=True)
    order = names[np.lexsort((names, -counts))].tolist()
    at = census_income.CATEGORIES.index("education")
    found = [order.index(name) + 1 for name in _column("validation", "education")[:1000]]
    np.testing.assert_array_equal(inputs["categories"][:1000, at], found)
    sizes = train.categories["categories"]
    assert sizes[at] == len(names) + 1
    assert (inputs["categories"].min(0) >= 0).all()
    assert (inputs["categories"].max(0) < sizes).all()


@on_the_real_data
@pytest.mark.ci_only
def test_it_learns(monkeypatch):
    """Half an epoch: the losses fall and both heads share the trunk and the tables."""
    held = _data()
    monkeypatch.setattr(data, "build", lambda *_: held)
    built = experiment.build(_config(steps="'0.5 epochs'"), problems.strategy(1))
    result = problems.train(built, 195, calls=5, evaluate=True)
    assert (result.losses[-1] < 0.7 * result.losses[0]).all()
    assert result.validation["income/auc"] > 0.9
    assert result.validation["marital_status/auc"] > 0.98
    shared = {built.step.reach.variables[position].path for position in built.step.reach.shared}
    assert shared == {"embedding_categories/table", "trunk_0_dense/kernel", "trunk_0_dense/bias"}


def _area(thresholds: dict[str, int], labels: np.ndarray, logits: np.ndarray) -> float:
    loss = _config().losses["income"]
    loss = dataclasses.replace(loss, metrics=[loss.metrics[0] | thresholds])
    metric = metrics.build(losses.build("income", loss), loss, prediction=logits, target=labels)["auc"]
    metric.update(keras.ops.convert_to_tensor(labels), keras.ops.convert_to_tensor(logits), None)
    return metric.result()


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_the_area_is_exact_where_predictions_crowd(spread):
    """Of rare labels almost all predictions lie near 0; Keras' own number of thresholds misses what lies between."""
    random = np.random.RandomState(0)
    labels = (random.uniform(size=50_000) < 0.06).astype(np.float32)
    logits = random.normal(-6 + 3 * labels, spread).astype(np.float32)[:, np.newaxis]
    exact = roc_auc_score(labels, logits[:, 0])
    assert _area({}, labels, logits) == pytest.approx(exact, abs=1e-4)
    assert _area({"num_thresholds": 200}, labels, logits) < exact - 1e-3


@on_the_real_data
@pytest.mark.ci_only
def test_areas_and_time(tmp_path, monkeypatch):
    """On average over seeds more than the MMoE paper's best; a run as a user starts it takes less than a minute."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = ["--config=configs/census_income.py", f"--config.dataset.path={FOLDER}", f"--config.seed={SEEDS[0]}"]
    result = run(*arguments, f"--workdir={tmp_path / 'run'}", cwd=ROOT, root=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stderr
    # On a machine of its own a run takes less time than its processor seconds, which tests beside it do not add to.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MOST_SECONDS
    last = [json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])]
    held = _data()  # read once for the other seeds
    monkeypatch.setattr(data, "build", lambda *_: held)
    for seed in SEEDS[1:]:
        console = Console(file=io.StringIO())
        history = train.train(_config(seed=str(seed)), str(tmp_path / str(seed)), problems.strategy(1), console)
        last.append(history[-1].values)
    for name, least in LEAST.items():
        values = [each[name] for each in last]
        assert np.mean(values) >= least, values
