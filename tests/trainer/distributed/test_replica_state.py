"""Random layers and batch statistics on several replicas."""

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.distributed import replica_state
from trainer.run import experiment

DROPOUT = [{"layer": "Dense", "units": 8}, {"layer": "Dropout", "rate": 0.5}, {"layer": "Dropout", "rate": 0.5}]


def _masks(seed: int, step: int) -> list[np.ndarray]:
    """Returns for each of three replicas the (1, 64) output of a dropout layer for ones, 0 where one is dropped."""
    strategy = problems.strategy(3)
    with strategy.scope():
        layer = tf.keras.layers.Dropout(0.5)
        model = tf.keras.Sequential([tf.keras.Input((64,)), layer])

    @tf.function(autograph=False)
    def run():
        def on_replica():
            replica_state.seed_random_layers(model, seed=seed, step=tf.constant(step, tf.int64))
            return model(tf.ones([1, 64]), training=True)

        return strategy.run(on_replica)

    return [mask.numpy() for mask in strategy.experimental_local_results(run())]


def test_masks_differ_between_replicas_steps_and_seeds_and_repeat():
    masks = {(seed, step): _masks(seed, step) for seed in (0, 1) for step in (0, 1)}
    assert len({mask.tobytes() for replicas in masks.values() for mask in replicas}) == 2 * 2 * 3
    np.testing.assert_array_equal(masks[1, 1], _masks(1, 1))


def test_layers_draw_different_masks():
    built = experiment.build(problems.config(model__trunk=DROPOUT), problems.strategy(1))
    problems.train(built, 1)
    states = [variable.numpy() for variable in built.model.variables if variable.path.endswith("seed_generator_state")]
    assert len(states) == 2
    assert not np.array_equal(*states)


@pytest.mark.parametrize("replicas", [1, 2])
def test_same_seed_same_run_other_seed_other_run(replicas):
    changes = {"model__trunk": DROPOUT, "combine__name": "pcgrad", "precision": "float32"}
    first, again, other = (problems.run(replicas, 6, seed=seed, **changes) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.losses, again.losses)
    for name, value in first.variables.items():
        np.testing.assert_array_equal(value, again.variables[name])
    assert not np.array_equal(first.losses, other.losses)


@pytest.mark.parametrize("synchronized", [False, True])
def test_batch_statistics_are_averaged_before_evaluation(synchronized):
    trunk = [{"layer": "Dense", "units": 4}, {"layer": "BatchNormalization", "synchronized": synchronized}]
    built = experiment.build(problems.config(model__trunk=trunk, batch_size=12), problems.strategy(3))
    loop, iterator = built.step.build(), iter(built.batches(0))
    loop(
        iterator,
        tf.constant(0, tf.int64),
        tf.constant(3, tf.int64),
        tf.constant(False),
        built.step.initial_state(),
        built.step.initial_totals(),
    )
    (moving,) = (variable for variable in built.model.variables if variable.path.endswith("moving_mean"))
    before = np.array([component.numpy() for component in moving.value.values])
    assert (np.ptp(before, axis=0).max() < 1e-12) == synchronized
    built.evaluator.build()()
    after = np.array([component.numpy() for component in moving.value.values])
    np.testing.assert_allclose(after, np.tile(before.mean(axis=0), (3, 1)), atol=1e-12)


def test_synchronized_statistics_do_not_depend_on_replicas():
    trunk = [{"layer": "Dense", "units": 4}, {"layer": "BatchNormalization", "synchronized": True}]
    one, three = (problems.run(replicas, 5, model__trunk=trunk, batch_size=12, evaluate=True) for replicas in (1, 3))
    for name, value in one.variables.items():
        np.testing.assert_allclose(three.variables[name], value, atol=1e-9)
    for name, value in one.validation.items():
        assert three.validation[name] == pytest.approx(value, abs=1e-9)
