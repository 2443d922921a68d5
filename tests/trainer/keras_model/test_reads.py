"""Losses of `compile` with `reads`: of several outputs, inputs, layers and derivatives, as a loop by hand has them."""

import contextlib
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from tests.properties.reading_losses import agreement, kl, residual, sparsity
from trainer import ConfigError, MultiLossModel

COUNT, SIZE, RATE = 13, 5, 0.125
RANDOM = np.random.RandomState(0)
X = {"image": RANDOM.normal(size=(COUNT, 6)), "time": RANDOM.uniform(size=(COUNT, 1))}
# `number` is the target of no output; NaN is no label.
Y = {"digit": RANDOM.randint(0, 3, COUNT), "number": np.where(np.arange(COUNT) % 3, RANDOM.normal(size=COUNT), np.nan)}
WEIGHTS = {"digit": RANDOM.uniform(size=COUNT), "number": RANDOM.uniform(size=COUNT)}
LOSSES = {
    "digit": "sparse_categorical_crossentropy",
    "kl": {"loss": kl, "reads": {"mu": "heads.mu", "log_sigma": "heads.log_sigma"}},
    "reconstruction": {"loss": "mse", "reads": {"y_true": "inputs.image", "y_pred": "heads.reconstruction"}},
    "residual": {"loss": residual, "reads": {"u": "heads.field", "time": "inputs.time"}},
    "agreement": {
        "loss": agreement,
        "reads": {"mu": "heads.mu", "logits": "heads.digit", "digit": "targets.digit", "number": "targets.number"},
        "normalizer": "weights",
    },
    "sparsity": {"loss": sparsity, "reads": {"code": "layers.encoder"}},
}
LOSS_WEIGHTS = {"digit": 0.5, "kl": 0.25, "residual": 2.0}


@pytest.fixture(autouse=True)
def _float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def autoencoder():
    """A `MultiLossModel`; outputs without a loss are among its own."""
    keras.utils.set_random_seed(2)
    image, time = keras.Input((6,), name="image"), keras.Input((1,), name="time")
    hidden = keras.layers.Dense(4, activation="tanh", name="encoder")(image)
    mu, log_sigma = (keras.layers.Dense(2, name=name)(hidden) for name in ("mu", "log_sigma"))
    field = keras.layers.Dense(3, activation="tanh", name="field_hidden")(keras.layers.Concatenate()([hidden, time]))
    heads = {
        "mu": mu,
        "log_sigma": log_sigma,
        "reconstruction": keras.layers.Dense(6, name="reconstruction")(mu),
        "digit": keras.layers.Dense(3, activation="softmax", name="digit")(mu),
        "field": keras.layers.Dense(1, name="field")(field),
    }
    return MultiLossModel({"image": image, "time": time}, heads)


def by_hand(model, x, y, weights):
    """Every loss over some examples, written out."""
    with tf.GradientTape() as outer:
        outer.watch(x["time"])
        with tf.GradientTape() as inner:
            inner.watch(x["time"])
            heads = model(x, training=True)
        first = inner.gradient(heads["field"], x["time"])
    second = outer.gradient(first, x["time"])
    mu, log_sigma = heads["mu"], heads["log_sigma"]
    chosen = tf.gather(heads["digit"], y["digit"], batch_dims=1)
    has_number = ~np.isnan(y["number"])
    both = weights["digit"] * weights["number"] * has_number
    difference = chosen - mu[:, 0] - 0.1 * np.where(has_number, y["number"], 0)
    return {
        "digit": tf.reduce_mean(-weights["digit"] * tf.math.log(chosen)),
        "kl": tf.reduce_mean(0.5 * tf.reduce_sum(mu**2 + tf.exp(2 * log_sigma) - 1 - 2 * log_sigma, -1)),
        "reconstruction": tf.reduce_mean((x["image"] - heads["reconstruction"]) ** 2),
        "residual": tf.reduce_mean((second + first + heads["field"] - tf.sin(x["time"])) ** 2),
        "agreement": tf.reduce_sum(both * difference**2) / tf.reduce_sum(both),
        "sparsity": tf.reduce_mean(tf.reduce_sum(tf.abs(model.get_layer("encoder")(x["image"])), -1)),
    }


@functools.cache
def expected():
    """The variables after an epoch, by a loop written by hand, and every loss over all examples then."""
    model = autoencoder()
    data = tf.data.Dataset.from_tensor_slices((X, Y, WEIGHTS))
    for x, y, weights in data.batch(SIZE):
        with tf.GradientTape() as tape:
            found = by_hand(model, x, y, weights)
            total = tf.add_n([LOSS_WEIGHTS.get(name, 1.0) * loss for name, loss in found.items()])
        for variable, gradient in zip(model.trainable_variables, tape.gradient(total, model.weights), strict=True):
            variable.assign_sub(RATE * gradient)
    losses = by_hand(model, *next(iter(data.batch(COUNT))))
    return [each.numpy() for each in model.weights], {f"{name}_loss": float(loss) for name, loss in losses.items()}


@pytest.mark.parametrize(
    ("replicas", "options"),
    [
        pytest.param(1, {"run_eagerly": True}, marks=pytest.mark.ci_only),
        (2, {}),
        pytest.param(3, {"diagnostics": True}, marks=pytest.mark.ci_only),
        pytest.param(1, {"micro_batches": 2}, marks=pytest.mark.ci_only),
    ],
)
def test_equals_a_loop_written_by_hand(replicas, options):
    variables, losses = expected()
    with problems.strategy(replicas).scope() if replicas > 1 else contextlib.nullcontext():
        model = autoencoder()
        model.compile(keras.optimizers.SGD(RATE), LOSSES, LOSS_WEIGHTS, **options)
    data = tf.data.Dataset.from_tensor_slices((X, Y, WEIGHTS)).batch(SIZE)
    found = model.fit(data, validation_data=data, verbose=0).history
    for own, value in zip(model.weights, variables, strict=True):
        np.testing.assert_allclose(own.numpy(), value, rtol=0, atol=1e-9, err_msg=own.path)
    assert {name: found[f"val_{name}"][0] for name in losses} == pytest.approx(losses, abs=1e-9)
    total = sum(LOSS_WEIGHTS.get(name.removesuffix("_loss"), 1.0) * loss for name, loss in losses.items())
    assert found["val_loss"][0] == pytest.approx(total, abs=1e-9)


def two_outputs(cls=MultiLossModel):
    """Two inputs and two outputs without names of their own in a list."""
    keras.utils.set_random_seed(1)
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    return cls([left, right], [keras.layers.Dense(3, name="a")(left), keras.layers.Dense(3, name="b")(right)])


def difference(one, other):
    return keras.ops.mean((one - other) ** 2, axis=-1)


def test_a_file_holds_such_losses_and_combinations_take_them(tmp_path):
    """Outputs and inputs in lists by the names that they have in the model; a loss alone, without targets."""
    model, data = two_outputs(), [RANDOM.normal(size=(8, 3)), RANDOM.normal(size=(8, 3))]
    losses = {
        "alike": {"loss": difference, "reads": {"one": "heads.a", "other": "heads.b"}},
        "copied": {
            "loss": keras.losses.MeanSquaredError(reduction="sum"),
            "reads": {"y_true": "inputs.right", "y_pred": "heads.a"},
            "variables": ["a/kernel"],
        },
    }
    model.compile("adam", losses, {"alike": 0.5}, combine="upgrad", optimizers={"copied": "sgd"}, run_eagerly=True)
    with pytest.raises(ConfigError, match="optimizers.copied=.*owns nothing"):
        model.train_on_batch(data)
    with pytest.raises(ConfigError, match="loss_weights.alik=1.0: unknown output; did you mean 'alike'"):
        model.compile("adam", losses, {"alik": 1.0})
    model.compile("adam", losses, {"alike": 0.5}, combine="upgrad", run_eagerly=True)
    model.train_on_batch(data)
    a, b = model.predict(data, verbose=0)
    expected = {"alike_loss": ((a - b) ** 2).mean(), "copied_loss": ((a - data[1]) ** 2).mean(-1).sum()}
    expected["loss"] = 0.5 * expected["alike_loss"] + expected["copied_loss"]
    assert model.evaluate(data, verbose=0, return_dict=True) == pytest.approx(expected, abs=1e-12)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={"difference": difference})
    assert loaded.train_on_batch(data, return_dict=True) == model.train_on_batch(data, return_dict=True)
    np.testing.assert_array_equal(loaded.get_layer("a").kernel, model.get_layer("a").kernel)


def compares(pred, derivative=None):
    del derivative
    return pred[:, 0]


ALIKE = {"loss": difference, "reads": {"one": "heads.a", "other": "heads.b"}}


@pytest.mark.parametrize(
    ("loss", "line"),
    [
        ({"kl": ALIKE | {"over": "batch"}}, "loss.kl.over='batch': unknown set of examples"),
        (
            {"kl": ALIKE | {"every": 2}},
            "loss.kl.every=2: unknown key; did you mean 'over'? allowed: loss, normalizer",
        ),
        ({"kl": {"reads": ALIKE["reads"]}}, "loss.kl.loss: is missing and must be given"),
        ({"kl": {"loss": difference}}, "loss.kl.reads: must be given: no output has this name"),
        ({"kl": ALIKE | {"loss": 3}}, "loss.kl.loss=3: must be a function, a keras.losses.Loss or the name of one"),
        ({"kl": ALIKE | {"loss": "mse"}}, "loss.kl.reads.one='heads.a': unknown argument; allowed: y_pred, y_true"),
        ({"kl": ALIKE | {"reads": {"one": "heads.a"}}}, "loss.kl.reads.other: is missing and must be given"),
        ({"kl": ALIKE | {"reads": {"one": "a", "other": "heads.b"}}}, "loss.kl.reads.one='a': must be heads.<name>"),
        ({"kl": ALIKE | {"reads": ["heads.a"]}}, "loss.kl.reads=['heads.a']: must be a dictionary from arguments"),
        (
            {"kl": {"loss": compares, "reads": {"pred": "heads.a"}, "over": "replica"}},
            "loss.kl.over='replica': puts other examples together than those it differentiates by",
        ),
        ({"b": ALIKE | {"reads": {"one": "heads.a", "other": "heads.a"}}}, "loss.b: is the name of an output, but not"),
        (
            {"kl": ALIKE | {"reads": {"one": "heads.c", "other": "heads.b"}}},
            "loss.kl.reads.one='heads.c': unknown output; did you mean 'heads.b'? allowed: heads.0, heads.1, heads.a",
        ),
        (
            {"kl": ALIKE | {"reads": {"one": "targets.c", "other": "heads.b"}}},
            "loss.kl.reads.one='targets.c': unknown target; did you mean 'targets.b'? allowed: targets.0",
        ),
        (
            {"kl": ALIKE | {"reads": {"one": "inputs.c", "other": "heads.b"}}},
            "loss.kl.reads.one='inputs.c': unknown input; did you mean 'inputs.1'? allowed: inputs.0",
        ),
        (
            {"kl": ALIKE | {"reads": {"one": "layers.c", "other": "heads.b"}}},
            "loss.kl.reads.one='layers.c': unknown layer; did you mean 'layers.b'? allowed: layers.a",
        ),
        ({"kl": ALIKE | {"variables": ["c*"]}}, "loss.kl.variables.0='c*': matches none of the variables"),
        ({"kl": ALIKE | {"loss": lambda one, other: 0.0}}, "loss.kl.loss='<lambda>': returns a scalar"),
    ],
)
def test_mistakes_are_one_line(loss, line):
    model, data = two_outputs(), [np.zeros((4, 3)), np.zeros((4, 3))]

    def train():
        model.compile("sgd", loss, run_eagerly=True)
        model.train_on_batch(data, data)

    with pytest.raises(ConfigError) as caught:
        train()
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def from_the_mean(prediction, number):
    difference = prediction[:, 0] - number
    return (difference - keras.ops.mean(difference)) ** 2


def test_examples_without_a_label_are_not_compared():
    model, data, number = two_outputs(), [RANDOM.normal(size=(8, 3))] * 2, np.where(np.arange(8) % 3, 1.0, np.nan)
    reads = {"prediction": "heads.a", "number": "targets.number"}
    loss = {"loss": from_the_mean, "reads": reads, "over": "global_batch"}
    model.compile("sgd", {"spread": loss}, run_eagerly=True)
    found = model.evaluate(data, {"number": number}, verbose=0, return_dict=True)
    values = model.predict(data, verbose=0)[0][:, 0][~np.isnan(number)]
    assert found == pytest.approx({"loss": values.var(), "spread_loss": values.var()}, abs=1e-12)


def test_a_whole_batch_is_compared_on_one_device():
    with problems.strategy(2).scope():
        model = two_outputs()
        model.compile("sgd", {"kl": ALIKE | {"over": "global_batch"}})
    with pytest.raises(ConfigError, match=r"^loss.kl.over='global_batch': is for a single device in fit"):
        model.fit([np.zeros((4, 3))] * 2, verbose=0)


def test_derivatives_that_cannot_be_compiled():
    """Those of concatenated inputs are slices, of which XLA has no gradient where sizes vary."""
    model = autoencoder()
    model.compile("sgd", {"residual": LOSSES["residual"]}, jit_compile=True, micro_batches=2)
    with pytest.raises(ConfigError, match="^jit_compile=True: takes derivatives of an operation that has none with"):
        model.train_on_batch(X)
