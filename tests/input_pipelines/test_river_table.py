"""A table as the river flow data RF1 (Spyromitros-Xioufis et al. 2016), made up: gaps, and names that patterns confuse.

A row has the levels at eight stations now and at seven earlier hours, and a day and two days later.
"""

import json
import pathlib

import numpy as np
import pytest

from tests import forked
from tests.input_pipelines import reading

STATIONS = ("CHSI2", "NASI2", "EADM7", "SCLM7", "CLKM7", "VALI2", "NAPM7", "DLDI4")
BEFORE, AHEAD, ROWS = (0, 6, 12, 18, 24, 36, 48, 60), (24, 48), 9125
# `CHSI2_48__0` is an input, two days ago, and `CHSI2_48H__0` a target, two days ahead.
EXPERIMENT = """
import ml_collections


def get_config():
    config = ml_collections.ConfigDict({"steps": "3 epochs", "batch_size": 64})
    config.dataset = {"name": "csv", "path": "rf1.csv", "held_out": 0.2}
    config.dataset.inputs = {"levels": {"feature": "*__0", "prepare": ["standardise", "fill"]}}
    config.dataset.targets = {f"in_{h}": {"feature": f"*_{h}H__0", "prepare": "standardise"} for h in (24, 48)}
    config.model = {"trunk": [{"layer": "Dense", "units": 64, "activation": "relu"}]}
    config.model.heads = {f"in_{h}": [{"layer": "Dense", "units": 8}] for h in (24, 48)}
    config.losses = {f"in_{h}": {"loss": "mse", "metrics": "r2_score"} for h in (24, 48)}
    return config
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> tuple[pathlib.Path, dict[str, np.ndarray]]:
    """The folder of `rf1.csv`, and its columns; of 3 in 100 numbers nothing is known."""
    random = np.random.RandomState(0)
    level = 0.1 * np.cumsum(random.normal(size=(ROWS + BEFORE[-1] + AHEAD[-1], len(STATIONS))), axis=0)
    now = np.arange(ROWS) + BEFORE[-1]
    columns = {f"{name}_{lag}__0": level[now - lag, station] for lag in BEFORE for station, name in enumerate(STATIONS)}
    columns |= {
        f"{name}_{hours}H__0": level[now + hours, station] for hours in AHEAD for station, name in enumerate(STATIONS)
    }
    values = np.stack(list(columns.values()), axis=1).round(4)
    values[random.uniform(size=values.shape) < 0.03] = np.nan
    folder = tmp_path_factory.mktemp("river")
    lines = [",".join("" if np.isnan(value) else str(value) for value in row) for row in values]
    (folder / "rf1.csv").write_text("\n".join([",".join(columns), *lines]) + "\n")
    return folder, dict(zip(columns, values.T, strict=True))


def test_ten_lines_train_on_it(table):
    folder, _ = table
    (folder / "my.py").write_text(EXPERIMENT)
    result = forked.run("trainer.main", "--config=my.py", "--workdir=run", cwd=folder)
    assert result.returncode == 0, result.stderr
    last = json.loads((folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["in_24/r2_score"] > 0.85
    assert last["in_48/r2_score"] > 0.85


@pytest.mark.parametrize("pattern", ["*", "*__0", "*_*__0"])
def test_targets_are_never_among_the_inputs(table, pattern):
    folder, columns = table
    targets = {f"in_{hours}": {"feature": f"*_{hours}H__0"} for hours in AHEAD}
    inputs = {"levels": {"feature": pattern, "prepare": "fill"}}
    built = reading.build(
        {"name": "csv", "path": str(folder / "rf1.csv"), "held_out": 0.2, "inputs": inputs, "targets": targets}
    )
    names = [name for name in columns if "H" not in name.partition("_")[2]]
    assert (len(names), list(built.names.columns["inputs"])) == (64, names)
    gathered = dict.fromkeys(targets, 0)
    for split in built.splits.values():
        for hours in AHEAD:
            weights = split.examples.weights[f"in_{hours}"]
            gathered[f"in_{hours}"] += int(weights.sum())
    assert gathered == {
        f"in_{hours}": sum(int(np.isfinite(columns[f"{name}_{hours}H__0"]).sum()) for name in STATIONS)
        for hours in AHEAD
    }
