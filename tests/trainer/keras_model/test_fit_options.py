"""A step of `fit` with regularizers, losses of layers, clipping, and in half precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from tests.trainer.keras_model import small
from trainer import MultiLossModel
from trainer.common.errors import ConfigError

X, Y = small.arrays()
DATA = {"x": X, "y": Y, "batch_size": small.BATCH, "shuffle": False, "verbose": 0}


class _Sparse(keras.layers.Layer):
    """Adds the mean of its input's squares to the losses."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def _layers() -> tuple[keras.layers.Layer, ...]:
    start = keras.initializers.GlorotUniform(seed=1)
    added = {"kernel_regularizer": "l2", "bias_regularizer": "l1", "activity_regularizer": "l1"}
    return keras.layers.Dense(7, kernel_initializer=start, **added), _Sparse()


@pytest.mark.usefixtures("float64")
def test_losses_of_layers_and_clipping_are_keras_fit():
    """Regularizers, `add_loss`, `activity_regularizer`, and a limit to the norm of all gradients together."""
    ours = small.compiled(MultiLossModel, *_layers(), clip_norm=0.5)
    theirs = small.compiled(keras.Model, *_layers(), optimizer=keras.optimizers.Adam(0.01, global_clipnorm=0.5))
    found, expected = (model.fit(**DATA, epochs=5).history for model in (ours, theirs))
    small.assert_same_variables(ours, theirs)
    assert found.keys() >= expected.keys()
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=0, atol=1e-6)


@pytest.mark.ci_only
@pytest.mark.usefixtures("float64")
def test_losses_of_layers_on_replicas():
    """A scalar of a layer is the mean over a replica's examples, so that it does not depend on their number."""
    models = []
    for strategy in (problems.strategy(3), tf.distribute.get_strategy()):
        with strategy.scope():
            models.append(small.compiled(MultiLossModel, *_layers(), combine="pcgrad"))
        models[-1].fit(**DATA, epochs=5)
    small.assert_same_variables(*models)


def test_coefficients_that_hold_for_several_steps_need_the_whole_batch():
    """A fused pass in between would have to count the labels of all micro-batches before the first one."""
    combine = {"name": "pcgrad", "update_every": 3}
    small.compiled(MultiLossModel, combine=combine, run_eagerly=True).fit(**DATA)
    model = small.compiled(MultiLossModel, combine=combine, micro_batches=2, run_eagerly=True)
    with pytest.raises(ConfigError, match=r"^combine.update_every=3: .*micro_batches at 1"):
        model.fit(**DATA)


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.ci_only)])
def test_half_precision(policy):
    """Variables stay float32 and end near those of float32; the optimizer is the user's own; a later run scales on."""
    exact = small.compiled(MultiLossModel)
    exact.fit(**DATA, epochs=4)
    keras.config.set_dtype_policy(policy)
    adam = keras.optimizers.Adam(0.01)
    half = small.compiled(MultiLossModel, optimizer=adam)
    history = half.fit(**DATA, epochs=4).history
    assert half.optimizer is adam
    assert {variable.dtype for variable in half.trainable_variables} == {"float32"}
    assert history["loss"][-1] < history["loss"][0]
    small.assert_same_variables(half, exact, tolerance=0.1)
    assert any(not np.array_equal(*pair) for pair in zip(half.get_weights(), exact.get_weights(), strict=True))
