"""A step in float32 whose coefficients float32 cannot hold."""

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.config import loading
from trainer.run import experiment


def short(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """1e-30 times the squared error."""
    return 1e-30 * tf.reduce_mean(tf.square(prediction - tf.reshape(target, tf.shape(prediction))), axis=-1)


@pytest.mark.parametrize("changes", [{"combine__apply": "joint"}, {"combine__apply": "per_loss"}])
def test_fair_grad_on_gradients_of_length_1e_minus_30(changes):
    """The update grows as gradients shrink, as their length to the power of -1/3: here 1e10 times."""
    moved = []
    for loss, rate in (("mse", 0.1), (f"{__name__}:short", 1e-11)):
        sgd = {"name": "sgd", "learning_rate": rate}
        tree = problems.tree(precision="float32", combine__name="fair_grad", shared_optimizer=sgd, **changes)
        tree["losses"] = {
            name: tree["losses"][name] | {"loss": loss, "optimizer": sgd} for name in ("number", "vector")
        }
        del tree["model"]["heads"]["label"]
        built = experiment.build(loading.resolve(tree), tf.distribute.get_strategy())
        trunk = [built.reach.variables[v] for v in built.reach.shared]
        before = [variable.numpy() for variable in trunk]
        step, begin = built.step, tf.constant(0, tf.int64)
        state, totals = step.initial_state(), step.initial_totals()
        step.one_step(iter(built.batches(0)), begin, tf.constant(True), state, totals)
        moved.append([variable.numpy() - value for variable, value in zip(trunk, before, strict=True)])
    for expected, found in zip(*moved, strict=True):
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
