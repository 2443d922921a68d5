"""Random layers and batch statistics on several replicas."""

import numpy as np
import pytest
import tensorflow as tf

from tests import eager, problems
from trainer.distributed import replica_state
from trainer.run import experiment, resume

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


def test_layers_draw_different_masks(eagerly):
    built = experiment.build(problems.config(model__trunk=DROPOUT), problems.strategy(1))
    problems.train(built, 1)
    states = [variable.numpy() for variable in built.model.variables if variable.path.endswith("seed_generator_state")]
    assert len(states) == 2
    assert not np.array_equal(*states)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.ci_only)])
def test_same_seed_same_run_other_seed_other_run(replicas):
    """tests/trainer/run/test_loop.py compares traced runs and their files."""
    changes = problems.SIMPLE | {"model__trunk": DROPOUT, "combine__name": "pcgrad", "precision": "float32"}
    first, again, other = (problems.run(replicas, 6, seed=seed, **changes) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.losses, again.losses)
    for name, value in first.variables.items():
        np.testing.assert_array_equal(value, again.variables[name])
    assert not np.array_equal(first.losses, other.losses)


@pytest.mark.parametrize("synchronized", [False, pytest.param(True, marks=pytest.mark.ci_only)])
def test_an_evaluation_sees_the_average_and_changes_nothing(synchronized):
    """Also of a counter, which counts evaluations, too: they see that of the first replica."""
    normalization = {"layer": "BatchNormalization", "synchronized": synchronized}
    trunk = [{"layer": "Dense", "units": 4}, normalization, {"layer": "tests.trainer.distributed.layers:Counting"}]
    changes = problems.SIMPLE | {"model__trunk": trunk, "batch_size": 12}
    built = experiment.build(problems.config(**changes), problems.strategy(3))
    with eager.functions():
        problems.train(built, 3, calls=1)
    names = ["trunk_1_batch_normalization/moving_mean", "trunk_1_batch_normalization/moving_variance"]
    names += ["trunk_2_counting/calls", "trunk_2_counting/seen"]
    before = {name: values.numpy() for name, values in built.layer_state.of_replicas().items()}
    assert list(before) == names
    for name in names[:2]:
        assert (np.ptp(before[name], axis=0).max() == 0) == synchronized
    np.testing.assert_array_equal(before[names[2]], [3, 3, 3])
    saved = resume.to_save(
        built, built.step.initial_state(), built.step.initial_totals(), built.layer_state.of_replicas(), {}
    )
    # What is the same on all replicas, to the last bit, is saved once.
    assert list(saved["replicas"]) == ([] if synchronized else names[:2]) + names[3:]
    evaluate = built.evaluator.build()
    results = evaluate()
    assert evaluate() == results
    for name, values in built.layer_state.of_replicas().items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)
    averages = {name: values.mean(axis=0).astype(values.dtype) for name, values in before.items()}
    built.layer_state.assign({name: [value] * 3 for name, value in averages.items()})
    for name, value in evaluate().items():
        assert value == pytest.approx(results[name], rel=1e-12, abs=1e-12), name


def test_the_average_keeps_what_is_the_same():
    """Seven times a number, divided by seven, may be another one; integers have no mean."""
    same = tf.constant(np.tile(np.random.RandomState(0).normal(size=50), (7, 1)))
    assert replica_state.average(same).numpy().tobytes() == same.numpy()[0].tobytes()
    np.testing.assert_array_equal(replica_state.average(tf.constant([[1.0, np.inf], [2.5, np.inf]])), [1.75, np.inf])
    assert replica_state.average(tf.constant([5, 6])) == 5
    assert replica_state.average(tf.constant([True, False]))


def test_frozen_weights_are_no_state_of_layers():
    frozen = [{"layer": "Dense", "units": 4, "trainable": False}, {"layer": "BatchNormalization", "trainable": False}]
    built = experiment.build(problems.config(model__trunk=frozen), problems.strategy(1))
    expected = ["trunk_1_batch_normalization/moving_mean", "trunk_1_batch_normalization/moving_variance"]
    assert list(built.layer_state.of_replicas()) == expected


def test_synchronized_statistics_do_not_depend_on_replicas(eagerly):
    trunk = [{"layer": "Dense", "units": 4}, {"layer": "BatchNormalization", "synchronized": True}]
    changes = problems.SIMPLE | {"model__trunk": trunk, "batch_size": 12, "evaluate": True}
    one, three = (problems.run(replicas, 3, **changes) for replicas in (1, 3))
    for name, value in one.variables.items():
        np.testing.assert_allclose(three.variables[name], value, atol=1e-9)
    for name, value in one.validation.items():
        assert three.validation[name] == pytest.approx(value, abs=1e-9)
