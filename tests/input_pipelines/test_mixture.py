"""Several sources in a batch: quotas, masked targets, and the same contract as a single source."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines import data
from input_pipelines.configuration import DatasetConfig
from input_pipelines.feed import splits
from tests import problems
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.run import experiment

SIZES = {"a": 12, "b": 30}


@pytest.fixture
def folder(tmp_path):
    random = np.random.RandomState(0)
    for number, (name, count) in enumerate(SIZES.items()):
        id_ = 1000 * number + np.arange(count)
        np.savez(tmp_path / f"{name}.npz", x=random.normal(size=(count, 4)), id=id_, y=random.normal(size=count))
    return tmp_path


def _tree(folder, quotas=(1, 2), **changes) -> dict:
    sources = {
        name: {
            "name": "npz",
            "path": str(folder),
            "splits": {"train": f"{name}.npz", "validation": f"{name}.npz"},
            "quota": quota,
            "inputs": {"x": {}},
            "targets": {f"y_{name}": {"feature": "y"}, "id": {}},
        }
        for name, quota in zip(SIZES, quotas, strict=True)
    }
    for name, change in changes.items():
        sources[name].update(change)
    return {"sources": sources}


def _data(folder, quotas=(1, 2), **changes) -> data.Data:
    return data.build(schema.record(DatasetConfig)(_tree(folder, quotas, **changes), "dataset"))


def _batches(
    split: splits.Split, steps: int, *, first: int = 0, workers: int = 1, replicas: int = 1, size: int = 9
) -> list[dict]:
    local, shares = replicas // workers, []
    for worker in range(workers):
        ends = splits.ends(tf.distribute.InputContext(workers, worker, replicas), size)
        dataset = split.training(batch_size=size, seed=0, first_step=first, ends=ends)
        shares.append(list(dataset.take(steps * local).as_numpy_iterator()))
    return [
        tf.nest.map_structure(
            lambda *values: np.concatenate(values),
            *[share for own in shares for share in own[step * local : (step + 1) * local]],
        )
        for step in range(steps)
    ]


@pytest.mark.parametrize(("quotas", "size"), [((1, 2), 9), ((1, 1), 8), ((5, 1), 12)])
def test_every_batch_holds_the_quotas_spread_evenly(folder, quotas, size):
    for batch in _batches(_data(folder, quotas).splits["train"], 5, size=size):
        of_b = batch["targets"]["id"] >= 1000
        rounds = of_b.reshape(-1, sum(quotas))
        np.testing.assert_array_equal(rounds.sum(1), [quotas[1]] * len(rounds))


def test_targets_of_the_others_are_masked(folder):
    for batch in _batches(_data(folder).splits["train"], 3):
        of_b = batch["targets"]["id"] >= 1000
        np.testing.assert_array_equal(batch["weights"]["y_a"], ~of_b)
        np.testing.assert_array_equal(batch["weights"]["y_b"], of_b)
        np.testing.assert_array_equal(batch["weights"]["id"], 1)
        np.testing.assert_array_equal(batch["targets"]["y_a"][of_b], 0)


def test_every_source_has_epochs_of_its_own(folder):
    """Nine of each batch: three of twelve (an epoch in four steps), six of thirty (an epoch in five)."""
    ids = np.concatenate([batch["targets"]["id"] for batch in _batches(_data(folder).splits["train"], 20)])
    for number, (count, epoch) in enumerate(((12, 12), (30, 30))):
        own = ids[ids // 1000 == number] - 1000 * number
        for start in range(0, len(own), epoch):
            np.testing.assert_array_equal(np.sort(own[start : start + epoch]), np.arange(count))


@pytest.mark.parametrize(
    ("workers", "replicas", "first"),
    [
        pytest.param(1, 2, 0, marks=pytest.mark.ci_only),
        (3, 3, 2),
        pytest.param(2, 4, 0, marks=pytest.mark.ci_only),
        (1, 4, 5),
    ],
)
def test_replicas_workers_and_starts_do_not_matter(folder, workers, replicas, first):
    split = _data(folder).splits["train"]
    ours = _batches(split, 8 - first, first=first, workers=workers, replicas=replicas)
    for one, several in zip(_batches(split, 8)[first:], ours, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, several)


@pytest.mark.parametrize("replicas", [1, 3])
def test_evaluation_sees_every_example_of_every_source_once(folder, replicas):
    split = _data(folder).splits["validation"]
    context = tf.distribute.InputContext(1, 0, replicas)
    elements = list(split.evaluation(batch_size=8, context=context).as_numpy_iterator())
    assert len(elements) == replicas * split.evaluation_steps(8, replicas)
    ids = np.concatenate([element["targets"]["id"] for element in elements])
    np.testing.assert_array_equal(np.sort(ids), [*range(12), *range(1000, 1030)])


def test_an_epoch_is_all_examples_and_a_batch_no_more_than_a_source_has(folder):
    split = _data(folder, (1, 2)).splits["train"]
    assert (len(split), split.largest_batch) == (42, 36)


@pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.ci_only), 3])
def test_training_is_that_of_each_source_alone(folder, replicas):
    """With heads that share nothing, each loss moves as if its source had been trained on by itself."""
    adam = {"name": "adam", "learning_rate": 0.05}

    def tree(dataset: dict, names: list[str], batch_size: int) -> dict:
        return problems.tree(
            dataset=dataset,
            batch_size=batch_size,
            steps=6,
            model={
                "trunk": [],
                "heads": {name: [{"layer": "Dense", "units": 1, "kernel_initializer": "ones"}] for name in names},
            },
            losses={
                name: {"head": name, "target": f"y_{name}", "loss": "mse", "optimizer": adam, "metrics": ["mae"]}
                for name in names
            },
            shared_optimizer=adam,
        )

    mixed = experiment.build(loading.resolve(tree(_tree(folder), ["a", "b"], 9)), problems.strategy(replicas))
    ours = problems.train(mixed, 6, evaluate=True)
    source = _tree(folder)["sources"]["a"]
    del source["quota"]
    alone = experiment.build(loading.resolve(tree(source, ["a"], 3)), problems.strategy(1))
    theirs = problems.train(alone, 6, evaluate=True)
    np.testing.assert_allclose(ours.losses[:, 0], theirs.losses[:, 0], rtol=0, atol=1e-12)
    assert ours.validation["loss/a"] == pytest.approx(theirs.validation["loss/a"], rel=1e-12)
    assert ours.validation["a/mae"] == pytest.approx(theirs.validation["a/mae"], rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        (
            {"b": {"inputs": {"y": {}}, "targets": {"x": {}}}},
            "dataset.sources.b.inputs",
            "shape and type of source 'a'",
        ),
        ({"b": {"targets": {"id": {"feature": "x"}}}}, "dataset.sources.b.targets.id", "shape and type of source 'a'"),
        ({"b": {"targets": {"id": {"feature": "idd"}}}}, "dataset.sources.b.targets.id.feature", "did you mean 'id'"),
    ],
)
def test_sources_that_do_not_fit_together_are_named(folder, changes, field, words):
    with pytest.raises(ConfigError) as caught:
        _data(folder, **changes)
    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"batch_size": 10}, "batch_size", "multiple of 3"),
        ({"batch_size": 18, "micro_batches": 9}, "batch_size / micro_batches", "multiple of 3"),
        ({"dataset__name": "digits"}, "dataset.name", "belongs to each of dataset.sources"),
        ({"dataset__sources__b__quota": 0}, "dataset.sources.b.quota", "at least 1"),
        ({"dataset__sources__b__name": "npx"}, "dataset.sources.b.name", "did you mean 'npz'"),
    ],
)
def test_settings_that_do_not_go_together_are_named(folder, changes, field, words):
    tree = problems.tree(**{"dataset": _tree(folder), "batch_size": 9} | changes)
    with pytest.raises(ConfigError) as caught:
        loading.resolve(tree)
    assert caught.value.field == field
    assert words in str(caught.value)
