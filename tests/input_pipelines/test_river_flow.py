"""The simulated river: every reading is where time puts it, gaps are missing labels, and nothing is in two splits."""

import numpy as np
import pytest

from configs import river_flow as configuration
from input_pipelines.configuration import SourceConfig
from input_pipelines.datasets import river_flow
from input_pipelines.examples import Examples, load
from trainer.common import schema

GAUGES, HORIZON = 8, 48 // 6  # in steps
LAGS = [hours // 6 for hours in (0, 6, 12, 18, 24, 36, 48, 60)]


@pytest.fixture(scope="module")
def splits() -> dict[str, Examples]:
    return load(schema.record(SourceConfig)({"name": "river_flow"}, "dataset"), floatx="float64")


def _works(split: Examples, name: str) -> np.ndarray:
    return split.weights.get(name, np.ones(len(split))) > 0


def test_form(splits):
    assert list(splits) == ["train", "validation", "test"]
    assert [len(split) for split in splits.values()] == [5475, 1807, 1807]
    for split in splits.values():
        assert split.inputs.shape == (len(split), 64)
        assert list(split.targets) == list(configuration.GAUGES)
        assert split.targets.keys() == set(configuration.get_config().losses)
        assert {name for name in split.targets if not _works(split, name).all()} == set(split.weights)
        assert np.isfinite(split.inputs).all()


def test_every_reading_is_at_its_time(splits):
    """A row predicts what the row 48 hours later has for now, and remembers what earlier rows had."""
    for split in splits.values():
        now = split.inputs[:, :GAUGES]
        for block, lag in enumerate(LAGS):
            remembered = split.inputs[lag:, block * GAUGES : (block + 1) * GAUGES]
            np.testing.assert_array_equal(remembered, now[: len(now) - lag])
        for gauge, (name, target) in enumerate(split.targets.items()):
            works, later = _works(split, name)[:-HORIZON], now[HORIZON:, gauge]
            np.testing.assert_array_equal(target[:-HORIZON][works], later[works])
            before = now[HORIZON - 1 : -1, gauge]
            np.testing.assert_array_equal(later[~works], before[~works])  # a gauge out of order repeats itself


def test_no_reading_is_in_two_splits(splits):
    readings = [{*split.inputs.ravel(), *split.targets["delta"]} for split in splits.values()]
    assert not readings[0] & readings[1]
    assert not readings[1] & readings[2]
    assert not readings[0] & readings[2]


def test_standardised_by_the_training_rows(splits):
    for gauge, name in enumerate(splits["train"].targets):
        works = _works(splits["train"], name)
        assert abs(splits["train"].targets[name][works].mean()) < 0.1, name
        assert splits["train"].targets[name][works].std() == pytest.approx(1, abs=0.1), name
        assert splits["train"].inputs[:, gauge].std() == pytest.approx(1, abs=0.1), name


def test_flows_are_known_better_further_down_the_river(splits):
    """Least squares on the inputs: every flow better than its mean, the mouth far better than the sources."""
    train, held_out = splits["train"], splits["validation"]
    errors = {}
    for name, target in train.targets.items():
        works, there = _works(train, name), _works(held_out, name)
        inputs = train.inputs[works]
        found = np.linalg.solve(inputs.T @ inputs, inputs.T @ target[works])
        errors[name] = np.std(held_out.inputs[there] @ found - held_out.targets[name][there])
    assert errors["delta"] < 0.1 < 0.2 < errors["junction"] < errors["north_fork"] < 0.8
    assert max(errors.values()) == errors["east_creek"] < 0.9


def test_the_same_numbers_every_time(splits):
    again = river_flow.load()
    for name, split in splits.items():
        np.testing.assert_array_equal(again[name].inputs, split.inputs)
