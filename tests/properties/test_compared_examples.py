"""Losses that compare the examples of a batch: one device's numbers on any number of devices; noticed, refused."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import eager, problems
from trainer.common.errors import ConfigError
from trainer.components import comparisons, losses, predictions
from trainer.components.loss_sums import LossSums
from trainer.config import loading
from trainer.config.settings import Config
from trainer.run import comparing, experiment

STEPS = 4
SGD = {"name": "sgd", "learning_rate": 0.02}
TRIPLET = "tests.problems:triplet"


def _triplets_in_numpy(labels: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """`problems.triplet`, one triplet after another."""
    numbers = range(len(labels))
    values = []
    for a in numbers:
        found = [
            max(0.0, np.sum((prediction[a] - prediction[p]) ** 2) - np.sum((prediction[a] - prediction[n]) ** 2) + 1)
            for p in numbers
            for n in numbers
            if p != a and labels[p] == labels[a] != labels[n]
        ]
        values.append(np.mean(found) if found else 0.0)
    return np.array(values)


def _config(over: str | None = "global_batch", **changes) -> Config:
    tree = problems.tree(dataset__options={"missing": True}, shared_optimizer=SGD)
    layer = {"layer": "Dense", "units": 3, "use_bias": False}
    tree["model"] = {"trunk": [{"layer": "Dense", "units": 4}], "heads": {"vector": [layer], "place": [layer]}}
    tree["losses"] = {
        "vector": {"head": "vector", "target": "vector", "loss": "mse", "optimizer": SGD},
        "place": {"head": "place", "target": "label", "loss": TRIPLET, "over": over, "optimizer": SGD},
    }
    return loading.resolve(tree | changes)


# ---------------------------------------------------------------------------------------------------------------------
# Values.
# ---------------------------------------------------------------------------------------------------------------------


def test_training_and_evaluation_on_several_replicas():
    """11 examples, of which many lack a label, on two replicas, every other step fused; the evaluation by hand."""
    built = experiment.build(_config(), problems.strategy(1))
    with eager.functions():
        reference = problems.train(built, STEPS, evaluate=True)
    split = problems.load(missing=True)["validation"]
    outputs, weights = built.model(split.inputs)["place"].numpy(), split.weights["label"]
    total = 0.0
    for part in (slice(0, 9), slice(9, 19), slice(19, 29)):
        there = weights[part] > 0
        values = _triplets_in_numpy(split.targets["label"][part][there], outputs[part][there])
        total += np.sum(weights[part][there] * values)
    assert reference.validation["loss/place"] == pytest.approx(total / weights.sum(), rel=1e-9)
    other = experiment.build(_config(reduction="fused", probe_every=2), problems.strategy(2))
    problems.assert_same(problems.train(other, STEPS, evaluate=True), reference, reports=False)


@pytest.mark.ci_only
@pytest.mark.parametrize(
    "changes",
    [{"combine": {"name": "pcgrad"}, "reduction": "features"}, {"combine": {"name": "famo"}, "reduction": "fused"}],
    ids=["features", "losses after the update"],
)
def test_other_ways_to_compute(changes):
    one, two = (problems.train(experiment.build(_config(**changes), problems.strategy(n)), 3) for n in (1, 2))
    problems.assert_same(two, one)


@pytest.mark.ci_only
def test_circle_of_digits_on_three_replicas():
    """Ten steps of 32 examples, which three replicas share unevenly: the validation loss that one device has."""
    tree = {
        "steps": 10,
        "batch_size": 32,
        "precision": "float64",
        "dataset": {"name": "digits", "options": {"targets": ["digit"]}},
        "model": {
            "trunk": [{"layer": "Flatten"}, {"layer": "Dense", "units": 32, "activation": "relu"}],
            "heads": {
                "embedding": [{"layer": "Dense", "units": 8}, {"layer": "UnitNormalization"}],
                "digit": [{"layer": "Dense", "units": 10, "activation": "softmax"}],
            },
        },
        "losses": {
            "embedding": {"target": "digit", "loss": "circle", "over": "global_batch"},
            "digit": {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]},
        },
    }
    built = experiment.build(loading.resolve(tree), problems.strategy(3))
    assert problems.train(built, 10, calls=1, evaluate=True).validation["loss/embedding"] == pytest.approx(
        46.5598131437
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_and_gradients_of_every_replica(weighted):
    """11 rows on three replicas: own rows are counted, the gradient is the whole sum's; a collective for each dtype."""
    keras.config.set_floatx("float64")
    random = np.random.RandomState(0)
    prediction, labels = random.normal(size=(11, 3)), random.randint(0, 3, 11)
    weights = random.uniform(0.5, 2, 11) * (random.uniform(size=11) < 0.7) if weighted else np.ones(11)
    strategy, loss = problems.strategy(3), losses.build("place", _config().losses["place"])
    ends = [0, 3, 7, 11]
    rows = [slice(first, end) for first, end in zip(ends, ends[1:], strict=False)]

    def of_rows(row: slice) -> dict:
        batch = {"targets": {"label": labels[row]}, "weights": {"label": weights[row]} if weighted else {}}
        return tf.nest.map_structure(tf.constant, {"outputs": {"place": prediction[row]}, "batch": batch})

    parts = strategy.experimental_distribute_values_from_function(
        lambda context: of_rows(rows[context.replica_id_in_sync_group])
    )

    def on_replica(part: dict) -> tuple[LossSums, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(part["outputs"]["place"])
            (sums,) = comparisons.sums([loss], predictions.of(part["outputs"]), part["batch"], batch_size=11)
        return sums, tape.gradient(sums.loss_sum, part["outputs"]["place"])

    traced = tf.function(lambda part: strategy.run(on_replica, args=(part,)), autograph=False)
    sums, gradients = tf.nest.map_structure(strategy.experimental_local_results, traced(parts))
    collectives = [op for op in traced.get_concrete_function(parts).graph.get_operations() if "Collective" in op.type]
    assert len([op for op in collectives if op.type == "CollectiveReduceV2"]) == 3 * 2  # of float64 and of classes

    there = weights > 0
    values = np.zeros(11)
    values[there] = _triplets_in_numpy(labels[there], prediction[there])
    for replica, row in enumerate(rows):
        assert float(sums.loss_sum[replica]) == pytest.approx(np.sum((weights * values)[row]), rel=1e-12)
        assert float(sums.weight_sum[replica]) == pytest.approx(np.sum(weights[row]), rel=1e-12)
    whole = tf.Variable(prediction[there])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(weights[there] * problems.triplet(tf.constant(labels[there]), whole))
    expected = np.zeros((11, 3))
    expected[there] = tape.gradient(total, whole).numpy()
    np.testing.assert_allclose(np.concatenate(gradients), expected, rtol=0, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# Noticed and refused.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 12, "micro_batches": 4}, r"losses\.place\.over='global_batch': .*leave micro_batches at 1"),
        ({"compile": "passes"}, r"losses\.place\.over='global_batch': .*leave compile 'off'"),
        ({"combine": {"name": "modo"}}, r"losses\.place\.over='global_batch': .*halves.*'modo'"),
        ({"combine": {"name": "modo"}, "over": "replica"}, r"losses\.place\.over='replica': .*halves.*'modo'"),
        ({"over": "batch"}, r"losses\.place\.over='batch': .*global_batch"),
    ],
)
def test_refused_with_what_cuts_a_batch(changes, words):
    with pytest.raises(ConfigError, match=words):
        _config(**changes)


def test_noticed_unless_it_is_said():
    """A line on one device; an error on several and with micro-batches; nothing where `over` says what is compared."""
    config = _config(over=None)
    built = experiment.build(config, problems.strategy(1))
    (line,) = [note for note in built.notes if "losses.place.over" in note]
    assert "'global_batch'" in line
    network = experiment.network_lib.Network(built.model, built.losses, (), {}, built.data)
    with pytest.raises(ConfigError, match=r"losses\.place\.over=None: triplet.*2 devices.*'global_batch'.*'replica'"):
        comparing.check(config, network, 2)
    in_parts = dataclasses.replace(config, batch_size=12, micro_batches=4)
    with pytest.raises(ConfigError, match=r"losses\.place\.over=None: .*leave micro_batches at 1"):
        comparing.check(in_parts, network, 1)
    for over in ("replica", "global_batch"):
        said = tuple(dataclasses.replace(loss, over=over) for loss in network.losses)
        assert comparing.check(config, dataclasses.replace(network, losses=said), 2) == []


def _compares(loss: dict) -> bool:
    named = losses.build("place", dataclasses.replace(_config().losses["place"], loss=loss))
    random = np.random.RandomState(0)
    prediction, target = random.normal(size=(32, 3)), random.randint(0, 3, 32)
    return comparing.compares(named, {"y_true": tf.constant(target), "y_pred": tf.constant(prediction, tf.float32)})


def centred(target, prediction):
    """Divided by a statistic of the batch."""
    del target
    return tf.reduce_sum(tf.square(prediction - tf.reduce_mean(prediction, 0)), -1)


def large(target, prediction):
    """Every example by itself, in numbers that float32 rounds by more than 1e-4."""
    return 1e6 * tf.reduce_sum(tf.exp(prediction), -1) + tf.cast(target, tf.float32)


def at_random(target, prediction):
    """Other values in every call."""
    del target
    return tf.reduce_sum(prediction, -1) + tf.random.uniform([len(prediction)])


def of_32(target, prediction):
    """For one size of a batch only."""
    del target
    return tf.reduce_sum(tf.reshape(prediction, [32, 3]), -1)


HERE = "tests.properties.test_compared_examples"


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        ({"name": TRIPLET}, True),
        ({"name": "circle"}, True),
        ({"name": f"{HERE}:centred"}, True),
        ({"name": f"{HERE}:large"}, False),
        ({"name": f"{HERE}:at_random"}, False),
        ({"name": f"{HERE}:of_32"}, False),
        ({"name": "sparse_categorical_crossentropy", "from_logits": True}, False),
    ],
)
def test_what_compares_examples(loss, found):
    assert _compares(loss) == found
