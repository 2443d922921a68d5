"""One loss of several alone, from the same configuration."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.common import schema
from trainer.compare import grid, single_task
from trainer.compare.plan_file import Cell
from trainer.config import loading
from trainer.run import experiment

CONFIGS = sorted(path for path in pathlib.Path(__file__).parents[3].glob("configs/*.py") if path.stem != "__init__")


def _alone(loss, **changes):
    return single_task.alone(loading.resolve(problems.tree(**changes)), loss)


def test_the_loss_and_what_belongs_to_it_stay():
    found = schema.as_dict(_alone("number", combine__name="mgda", losses__number__weight=10.0, clip_norm=1.0))
    whole = schema.as_dict(problems.config(combine__name="mgda", clip_norm=1.0))
    assert found.pop("losses") == {"number": whole.pop("losses")["number"] | {"weight": 1.0}}
    assert found.pop("combine")["name"] == "sum"
    del whole["combine"]
    assert found == whole


@pytest.mark.parametrize(
    ("given", "metric", "mode"),
    [
        ({"metric": "number/mae"}, "number/mae", "auto"),
        ({"metric": "loss/number", "mode": "min"}, "loss/number", "min"),
        ({"metric": "label/accuracy", "mode": "max"}, "loss/number", "min"),
        ({"metric": "total_loss"}, "total_loss", "auto"),
        ({"metric": "{number/mae} + {loss/label}", "mode": "min"}, "loss/number", "min"),
        ({"metric": "2 * {number/mae}", "mode": "max"}, "2 * {number/mae}", "max"),
        ({"metric": "test/label/accuracy", "mode": "max"}, "test/loss/number", "min"),
        ({"metric": "segment/by=2/label/accuracy"}, "loss/number", "min"),
        ({"metric": "segment/by=2/number/mae"}, "segment/by=2/number/mae", "auto"),
    ],
)
def test_monitors_watch_this_loss(given, metric, mode):
    found = _alone("number", best=given)
    assert (found.best.metric, found.best.mode) == (metric, mode)


def test_how_much_better_is_better_is_in_the_unit_of_what_is_watched():
    stopping = {"metric": "label/accuracy", "patience": 3, "min_delta": 0.5}
    assert _alone("number", early_stopping=stopping).early_stopping.min_delta == 0.0
    assert _alone("label", early_stopping=stopping).early_stopping.min_delta == 0.5
    plateau = {"metric": "loss/label", "patience": 2, "factor": 0.5}
    assert _alone("number", reduce_on_plateau=plateau).reduce_on_plateau.metric == "loss/number"


def test_metrics_without_a_loss_stay_with_the_head_that_the_loss_reads():
    metrics = {"other": {"head": "label", "target": "label", "metrics": ["accuracy"]}}
    assert list(_alone("label", metrics=metrics).metrics) == ["other"]
    assert _alone("number", metrics=metrics).metrics == {}


def test_a_loss_that_reads_several_heads(root):
    config = loading.load(str(root / "configs" / "predicted_variance.py"))
    assert list(single_task.alone(config, "gaussian").metrics) == list(config.metrics)


def test_losses_without_weight_are_no_tasks():
    config = loading.resolve(problems.tree(losses__label__weight=0.0))
    assert single_task.tasks(config) == tuple(loss for loss in problems.LOSSES if loss != "label")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_can_be_trained_loss_by_loss(path):
    tree = loading.read_tree(str(path), [("dataset.path", "rows.csv")] if path.stem == "census_income" else [])
    config = loading.resolve(tree)
    for loss in single_task.tasks(config):
        found = grid.configuration(tree, Cell("sum", single_task=loss))
        assert list(found.losses) == [loss]
        assert found.steps == config.steps


def test_all_cells_start_from_the_same_variables_and_batches():
    tree = problems.tree(seed=3, **problems.SIMPLE)
    cells = [Cell("sum"), Cell("pcgrad"), Cell("sum", single_task="number")]
    built = [experiment.build(grid.configuration(tree, cell), tf.distribute.get_strategy()) for cell in cells]
    first, *others = ([variable.numpy() for variable in each.model.variables] for each in built)
    for other in others:
        for one, another in zip(first, other, strict=True):
            np.testing.assert_array_equal(one, another)
    first, *others = (next(iter(each.batches(first_step=0)))["inputs"] for each in built)
    for other in others:
        np.testing.assert_array_equal(first, other)
    fingerprints = {str(each.data.saved.fingerprints) for each in built}
    another = experiment.build(problems.config(seed=4, **problems.SIMPLE), tf.distribute.get_strategy())
    assert fingerprints == {str(another.data.saved.fingerprints)}  # no split depends on the seed
