"""A loss that reads a part of its head's last axis."""

import numpy as np
import pytest

from tests import eager, problems
from tests.trainer.components.test_losses import PREDICTION, TARGET, _sums
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.run import experiment


def test_slices_read_their_part_of_the_last_axis():
    whole, left = _sums("mse", PREDICTION[:, 1:], TARGET[:, 1:]), _sums("mse", PREDICTION, TARGET[:, 1:], slice=[1, 3])
    assert left == pytest.approx(whole)


def _one_vector(**label) -> dict:
    """The problem's label and vector read from one output of seven numbers."""
    tree = problems.tree()
    tree["model"]["heads"] = {"both": [{"layer": "Dense", "units": 7}]}
    parts = {"label": [0, 4], "vector": [4, 7]}
    tree["losses"] = {name: {**tree["losses"][name], "head": "both", "slice": part} for name, part in parts.items()}
    tree["losses"]["vector"]["metrics"] = ["mae", "r2_score"]
    tree["losses"]["label"].update(label)
    return tree


@pytest.mark.parametrize("combine", ["weighted", pytest.param("independent", marks=pytest.mark.ci_only)])
def test_two_slices_of_one_vector_equal_two_heads(combine):
    """Same losses, metrics and variables as a model with a head for each, from the same start."""
    sliced = _one_vector()
    heads = {"label": [{"layer": "Dense", "units": 4}], "vector": [{"layer": "Dense", "units": 3}]}
    apart = {**sliced, "model": {**sliced["model"], "heads": heads}}
    apart["losses"] = {name: {**loss, "head": name, "slice": None} for name, loss in sliced["losses"].items()}
    built = [
        experiment.build(loading.resolve({**tree, "combine": {"name": combine}}), problems.strategy(replicas))
        for tree, replicas in ((sliced, 2), (apart, 1))
    ]
    one, two = ({v.path: v for v in each.model.trainable_variables} for each in built)
    for part in ("kernel", "bias"):
        label, vector = np.split(one[f"head_both_0_dense/{part}"].numpy(), [4], axis=-1)
        two[f"head_label_0_dense/{part}"].assign(label)
        two[f"head_vector_0_dense/{part}"].assign(vector)
        two[f"trunk_0_dense/{part}"].assign(one[f"trunk_0_dense/{part}"].numpy())
    ours = problems.train(built[0], 6, evaluate=True)
    with eager.functions():
        theirs = problems.train(built[1], 6, evaluate=True)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-9)
    assert ours.validation == pytest.approx(theirs.validation, rel=1e-9)
    np.testing.assert_allclose(
        ours.variables["head_both_0_dense/kernel"],
        np.hstack([theirs.variables[f"head_{name}_0_dense/kernel"] for name in ("label", "vector")]),
        rtol=1e-9,
    )


def test_a_slice_leaves_the_rest_of_the_head_alone():
    """With the vector's loss alone, the label's columns of the head do not move."""
    tree = _one_vector()
    del tree["losses"]["label"]
    built = experiment.build(loading.resolve(tree), problems.strategy(1))
    start = {variable.path: variable.numpy() for variable in built.model.trainable_variables}
    after = problems.train(built, 3).variables
    moved = np.any(after["head_both_0_dense/kernel"] != start["head_both_0_dense/kernel"], axis=0)
    assert moved.tolist() == [False] * 4 + [True] * 3


@pytest.mark.parametrize(
    ("label", "field", "words"),
    [
        ({"slice": [5, 8]}, "slice", "must end within the last axis of head 'both', which gives (7,)"),
        ({"slice": [0, 2]}, "target", "holds 2, which is none of the classes 0 to 1 of head 'both' from 0 to 2"),
        ({"slice": [0, 2], "target": "vector", "loss": "mse"}, "target", "head 'both' from 0 to 2, which gives (2,)"),
        ({"slice": [2, 2]}, "slice", "0 <= start < stop"),
        ({"slice": [-1, 2]}, "slice", "0 <= start < stop"),
        ({"slice": [0, 1, 2]}, "slice", "two whole numbers"),
        ({"slice": [0.0, 2]}, "slice", "two whole numbers"),
        ({"slice": 4}, "slice", "two whole numbers"),
        ({"slice": [False, True]}, "slice", "two whole numbers"),
    ],
)
def test_slices_that_do_not_fit_are_named(label, field, words):
    with pytest.raises(ConfigError) as caught:
        experiment.build(loading.resolve(_one_vector(**label)), problems.strategy(1))
    assert caught.value.field == f"losses.label.{field}"
    assert words in str(caught.value)
