"""scikit-learn's tables: splits, standardisation, targets by column, and mistakes in the options."""

import numpy as np
import pytest
import sklearn.datasets

from input_pipelines import examples
from input_pipelines.configuration import SourceConfig
from trainer.common import schema
from trainer.common.errors import ConfigError

ROWS = {"linnerud": 20, "diabetes": 442, "wine": 178, "breast_cancer": 569}
FIRST = {"linnerud": "Weight", "diabetes": "progression", "wine": "alcohol", "breast_cancer": "worst radius"}


def _load(name: str, **options) -> dict[str, examples.Examples]:
    return examples.load(schema.record(SourceConfig)({"name": name, "options": options}, "dataset"), floatx="float64")


@pytest.mark.parametrize("name", list(ROWS))
def test_four_fifths_to_train_on_standardised_by_them_alone(name):
    splits = _load(name, targets={"one": {"columns": FIRST[name]}})
    train, validation = splits["train"], splits["validation"]
    assert len(train) == int(0.8 * ROWS[name])
    assert len(train) + len(validation) == ROWS[name]
    for values in (train.inputs, train.targets["one"]):
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(values.std(axis=0), 1)
    assert np.abs(validation.inputs.mean(axis=0)).max() > 1e-3
    again = _load(name, targets={"one": {"columns": FIRST[name]}})
    np.testing.assert_array_equal(again["train"].inputs, train.inputs)


def test_every_row_is_in_one_split_with_its_own_label():
    """Undoing the standardisation gives scikit-learn's rows, each once."""
    data = sklearn.datasets.load_wine()
    splits = _load("wine", targets={"cultivar": {"classes": "cultivar"}})
    inputs = np.concatenate([split.inputs for split in splits.values()])
    labels = np.concatenate([split.targets["cultivar"] for split in splits.values()])
    scale = data.data.std(axis=0) / inputs.std(axis=0)
    rows = np.column_stack([(inputs - inputs.mean(axis=0)) * scale + data.data.mean(axis=0), labels])
    expected = np.column_stack([data.data, data.target])
    np.testing.assert_allclose(rows[np.lexsort(rows.round(6).T)], expected[np.lexsort(expected.T)], rtol=1e-9)


def test_inputs_are_by_default_what_no_target_is_made_of():
    targets = {"body": {"columns": ["Weight", "Waist"]}, "pace": {"classes": "Pulse", "bins": 2}}
    assert _load("linnerud", targets=targets)["train"].inputs.shape == (16, 3)
    assert _load("linnerud", targets={"body": {"columns": "W*"}})["train"].inputs.shape == (16, 4)
    assert _load("linnerud", targets=targets, inputs=["Chins", "W*"])["train"].inputs.shape == (16, 3)


def test_bins_are_equally_frequent_in_training():
    train = _load("diabetes", targets={"fifth": {"classes": "progression", "bins": 5}})["train"]
    number = _load("diabetes", targets={"value": {"columns": "progression"}})["train"].targets["value"][:, 0]
    fifth = train.targets["fifth"]
    assert np.bincount(fifth).tolist() == pytest.approx([353 / 5] * 5, abs=2)
    assert all(number[fifth == bin].max() < number[fifth == bin + 1].min() for bin in range(4))


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({}, "targets", "is missing"),
        ({"targets": {"a": {"classes": "cultivr"}}}, "targets.a.classes", "did you mean 'cultivar'"),
        ({"targets": {"a": {"classes": "ahs", "bins": 3}}}, "targets.a.classes", "did you mean 'ash'"),
        ({"targets": {"a": {"classes": "ash"}}}, "targets.a.bins", "holds numbers"),
        ({"targets": {"a": {"classes": "ash", "bins": 1}}}, "targets.a.bins", "at least 2"),
        ({"targets": {"a": {"columns": ["ash", "hu"]}}}, "targets.a.columns.1", "did you mean 'hue'"),
        ({"targets": {"a": {"columns": []}}}, "targets.a.columns", "at least one column"),
        ({"targets": {"a": {"columns": "cultivar"}}}, "targets.a.columns.0", "unknown column of numbers"),
        ({"targets": {"a": {"columns": "ash", "bins": 3}}}, "targets.a.bins", "numbers as they are"),
        ({"targets": {"a": {"columns": "ash", "classes": "cultivar"}}}, "targets.a", "either 'columns'"),
        ({"targets": {"a": {}}}, "targets.a", "either 'columns'"),
        ({"targets": {"a": {"column": "ash"}}}, "targets.a.column", "did you mean 'columns'"),
        ({"targets": {"a": {"columns": "ash"}}, "inputs": ["h*", "nothing"]}, "inputs.1", "allowed: alcalinity"),
        ({"targets": {"a": {"columns": "*"}}}, "inputs", "at least one column"),
        ({"targets": {"a": {"columns": "ash"}}, "input": ["hue"]}, "input", "did you mean 'inputs'"),
    ],
)
def test_mistakes_are_named(options, field, words):
    with pytest.raises(ConfigError) as caught:
        _load("wine", **options)
    assert caught.value.field == f"dataset.options.{field}"
    assert words in str(caught.value)
