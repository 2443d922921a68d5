"""Arguments that do not go together are refused in one line that names one, before the first step."""

import keras
import pytest
import tensorflow as tf

from tests.trainer.keras_model import small
from trainer.common.errors import ConfigError
from trainer.keras_model.model import MultiLossModel

X, Y = small.arrays()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizers": {"sizes": "sgd"}}, "optimizers.sizes=.*size"),
        ({"optimizers": {"shared": "sgd"}, "apply": "per_loss"}, "optimizers.shared: owns nothing"),
        ({"optimizer": keras.optimizers.AdamW(0.1), "apply": "per_loss"}, "optimizer.weight_decay"),
        ({"loss_weights": {"kind": -1.0}}, "loss_weights.kind"),
        ({"loss": None, "loss_weights": None}, "loss=None"),
        ({"metrics": {"kind": [lambda target, output: target + output[:, :2]]}}, "metrics=.*does not fit"),
        ({"loss_weights": {"kind": keras.Variable(1.0)}}, "^loss_weights.kind=.*: must be a finite number"),
        ({"combine": "graddrop", "apply": "per_loss"}, "^apply='per_loss': needs a mixed gradient"),
        ({"combine": {"name": "trimmed_mean", "trim": 2}}, "^combine.trim=2: takes at least 5 losses"),
        (
            {"loss": small.LOSSES | {"size": "sparse_categorical_crossentropy"}},
            "^loss.size='sparse_cat",
        ),
        ({"loss": small.LOSSES, "loss_weights": dict.fromkeys(small.LOSSES, 0.0)}, "^loss_weights=.*at least one loss"),
    ],
    ids=[
        *("of no loss", "of nothing", "decay", "negative weight", "no loss"),
        *("metric", "variable weight", "apply", "option", "shapes", "no weight"),
    ],
)
def test_refuses_with_the_argument(options, message):
    with pytest.raises(ConfigError, match=message):
        small.compiled(MultiLossModel, **options).train_on_batch(X, Y)


def test_a_layer_that_cannot_be_compiled_is_refused():
    layer = keras.layers.Activation("relu", name="lookup")
    layer.supports_jit = False  # as Keras' layers that look strings up have it
    with pytest.raises(ConfigError, match="^jit_compile=True: must be .* XLA cannot compile the layer 'lookup'"):
        small.compiled(MultiLossModel, layer, jit_compile=True)


class Lengths(keras.layers.Layer):
    def call(self, inputs):
        return tf.strings.length(inputs)[:, tf.newaxis]

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((None, 1), "int32")


@pytest.mark.ci_only
def test_an_operation_that_cannot_be_compiled_is_refused():
    words = keras.Input((), dtype="string")
    lengths = Lengths()(words)
    model = MultiLossModel(words, [keras.layers.Dense(1)(lengths), keras.layers.Dense(2)(lengths)])
    model.compile("sgd", "mse", jit_compile=True)
    with pytest.raises(ConfigError, match="^jit_compile=True: .* XLA cannot compile an operation"):
        model.train_on_batch(tf.constant(["a", "bc"]), [tf.ones((2, 1)), tf.ones((2, 2))])


def test_an_optimizer_of_other_variables_is_refused():
    optimizer = keras.optimizers.SGD()
    small.compiled(MultiLossModel, optimizer=optimizer, run_eagerly=True).train_on_batch(X, Y)
    with pytest.raises(ConfigError, match="optimizer='\\w+': has no state for hidden.*: it was built for other"):
        small.compiled(MultiLossModel, optimizer=optimizer, run_eagerly=True).train_on_batch(X, Y)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"kind": {4: 2.0}}, "class_weight.kind.4=2.0: must belong to one of 4 classes"),
        ({"kind": {"cat": 2.0}}, "class_weight.kind.cat=2.0: must belong to a class"),
        ({"kind": {1: -2.0}}, "class_weight.kind.1=-2.0: must be a finite number of at least 0"),
        ({"kinds": {1: 2.0}}, "class_weight.kinds.*kind"),
    ],
)
def test_class_weights_that_cannot_be(weights, message):
    with pytest.raises(ConfigError, match=message):
        small.compiled(MultiLossModel, run_eagerly=True).fit(X, Y, class_weight=weights, verbose=0)
