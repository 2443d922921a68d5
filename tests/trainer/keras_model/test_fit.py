"""`fit` and `evaluate` of a `MultiLossModel`: steps, missing labels, replicas, optimizers, logs."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.common.errors import ConfigError
from trainer.keras_model.model import MultiLossModel

COUNT = 23
RANDOM = np.random.RandomState(0)
X = RANDOM.normal(size=(COUNT, 5))
Y = {
    "kind": RANDOM.randint(0, 3, COUNT),
    "size": RANDOM.normal(size=(COUNT, 2)),
    "mass": RANDOM.normal(size=(COUNT, 1)),
}
LOSSES = {"kind": "sparse_categorical_crossentropy", "size": "mse", "mass": "huber"}
NO_LABEL = {
    "kind": Y["kind"],
    "size": np.where(RANDOM.uniform(size=(COUNT, 2)) < 0.4, np.nan, Y["size"]),
    "mass": np.where(np.arange(COUNT)[:, np.newaxis] % 3 == 0, np.nan, Y["mass"]),
}
WEIGHTS = {"kind": (RANDOM.uniform(size=COUNT) < 0.6) * 2.0, "size": np.ones(COUNT), "mass": RANDOM.uniform(size=COUNT)}


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def compiled(model=MultiLossModel, replicas=1, **options):
    keras.utils.set_random_seed(3)
    scope = problems.strategy(replicas).scope() if replicas > 1 else contextlib.nullcontext()
    with scope:
        inputs = keras.Input((5,))
        hidden = keras.layers.Dense(4, activation="tanh", kernel_regularizer="l2", name="trunk")(inputs)
        heads = {
            "kind": keras.layers.Dense(3, activation="softmax", name="kind")(hidden),
            "size": keras.layers.Dense(2, name="size")(hidden),
            "mass": keras.layers.Dense(1, name="mass")(hidden),
        }
        built = model(inputs, heads)
        options = {"optimizer": keras.optimizers.Adam(0.05), "loss": LOSSES, "loss_weights": {"size": 0.3}} | options
        if model is keras.Model:
            options["loss_weights"] = {"kind": 1.0, "mass": 1.0} | options["loss_weights"]
        built.compile(**options)
    return built


def variables(model):
    return {variable.path: variable.numpy() for variable in model.variables}


def assert_same(one, other, atol=1e-12):
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], atol=atol, err_msg=name)


def batches(*data, size=5):
    return tf.data.Dataset.from_tensor_slices(data).batch(size)


def test_losses_of_an_evaluation_are_means_over_all_labels():
    """Also where the last batch is smaller, and whatever is missing; metrics are over the labels that are there."""
    metrics = {"kind": ["accuracy"], "size": ["mae"], "mass": [keras.metrics.MeanSquaredError(name="square")]}
    model = compiled(run_eagerly=True, metrics=metrics, weighted_metrics={"mass": ["mae"]})
    found = model.evaluate(batches(X, NO_LABEL, WEIGHTS), verbose=0, return_dict=True)
    outputs = model.predict(X, verbose=0)

    of_kind = -np.log(np.clip(outputs["kind"][np.arange(COUNT), Y["kind"]], 1e-7, 1))
    has_kind = WEIGHTS["kind"] > 0
    sizes = outputs["size"] - NO_LABEL["size"]
    masses = (outputs["mass"] - NO_LABEL["mass"])[:, 0]
    has_mass, weights = ~np.isnan(masses), WEIGHTS["mass"]
    huber = np.where(np.abs(masses) <= 1, masses**2 / 2, np.abs(masses) - 0.5)
    expected = {
        "kind_loss": (WEIGHTS["kind"] * of_kind).mean(),
        "size_loss": np.nanmean(sizes**2),
        "mass_loss": (weights * huber)[has_mass].sum() / has_mass.sum(),
        "kind_accuracy": (outputs["kind"].argmax(axis=1) == Y["kind"])[has_kind].mean(),
        "size_mae": np.nanmean(np.abs(sizes)),
        "mass_square": np.mean(masses[has_mass] ** 2),
        "mass_mae": np.average(np.abs(masses[has_mass]), weights=weights[has_mass]),
    }
    penalty = np.float64(np.float32(0.01)) * (model.get_layer("trunk").kernel.numpy() ** 2).sum()
    expected["loss"] = expected["kind_loss"] + 0.3 * expected["size_loss"] + expected["mass_loss"] + penalty
    assert found == pytest.approx(expected, abs=1e-12)


def test_history_is_that_of_keras():
    """In name, order and number, but for each output's loss over uneven batches, which Keras does not weigh by size."""
    options = {"metrics": {"kind": ["accuracy"]}, "weighted_metrics": {"size": ["mse"]}, "steps_per_execution": 2}
    weights = {name: each + 0.1 for name, each in WEIGHTS.items()}  # those of weight 0 are in Keras' other metrics
    theirs, ours = (
        compiled(model, **options).fit(batches(X, Y, weights), epochs=2, verbose=0).history
        for model in (keras.Model, MultiLossModel)
    )
    assert list(ours) == list(theirs)
    for name in ("loss", "kind_accuracy", "size_mse"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-12)


@pytest.mark.parametrize(
    "combine",
    ["weighted", pytest.param("upgrad", marks=pytest.mark.ci_only), pytest.param("famo", marks=pytest.mark.ci_only)],
)
def test_any_number_of_replicas(combine):
    """With missing labels, a batch of 3 on 3 replicas and one of 2: the same variables, logs and evaluation."""
    data = batches(X[:22], *({name: each[:22] for name, each in part.items()} for part in (NO_LABEL, WEIGHTS)))
    results = []
    for replicas in (1, 3):
        model = compiled(
            replicas=replicas,
            combine=combine,
            diagnostics=combine == "upgrad",
            metrics={"kind": ["accuracy"], "mass": ["mae"]},
            run_eagerly=replicas == 1,
        )
        history = model.fit(data, epochs=1, verbose=0, validation_data=data.unbatch().batch(3)).history
        results.append(variables(model) | {name: np.array(each) for name, each in history.items()})
    assert_same(*results)


@pytest.mark.ci_only
def test_several_steps_in_one_call_on_several_replicas():
    results = []
    for replicas, steps in ((1, 1), (2, 3)):
        model = compiled(replicas=replicas, steps_per_execution=steps, metrics={"kind": ["accuracy"]})
        history = model.fit(batches(X, NO_LABEL), epochs=2, verbose=0, validation_data=batches(X, NO_LABEL)).history
        assert model.predict(batches(X), verbose=0)["kind"].shape == (COUNT, 3)
        results.append(variables(model) | {name: np.array(each) for name, each in history.items()})
    assert_same(*results)


@pytest.mark.parametrize("replicas", [1, pytest.param(3, marks=pytest.mark.ci_only)])
def test_the_mean_of_a_loss_that_is_a_sum_is_over_batches(replicas):
    """Also where a replica has no example of the last one."""
    loss = {"size": keras.losses.MeanSquaredError(reduction="sum")}
    model = compiled(replicas=replicas, optimizer=None, loss=loss | {"mass": "mse"}, loss_weights={})
    found = model.evaluate(
        batches(X[:22], {name: Y[name][:22] for name in ("size", "mass")}), verbose=0, return_dict=True
    )
    errors = model.predict(X[:22], verbose=0)["size"] - Y["size"][:22]
    assert found["size_loss"] == pytest.approx((errors**2).mean(axis=1).sum() / 5)


class Watched(keras.layers.Layer):
    """A layer with a metric of its own."""

    def __init__(self):
        super().__init__()
        self.mean = keras.metrics.Mean(name="seen")

    def call(self, inputs):
        self.mean.update_state(inputs)
        return 2 * inputs


def test_metrics_of_layers_are_reported():
    inputs = keras.Input((5,))
    hidden = Watched()(inputs)
    model = MultiLossModel(inputs, [keras.layers.Dense(2)(hidden), keras.layers.Dense(1)(hidden)])
    model.compile(loss="mse", run_eagerly=True)
    y = [Y["size"], Y["mass"]]
    history = model.fit(X, y, epochs=2, validation_data=(X[:5], [each[:5] for each in y]), verbose=0).history
    np.testing.assert_allclose(history["seen"], [X.mean()] * 2)
    np.testing.assert_allclose(history["val_seen"], [X[:5].mean()] * 2)


def test_micro_batches_are_parts_of_a_batch():
    results = []
    for micro_batches in (1, 2):
        model = compiled(micro_batches=micro_batches, combine="upgrad", run_eagerly=True, metrics={"mass": ["mae"]})
        history = model.fit(batches(X, NO_LABEL, WEIGHTS), verbose=0).history
        results.append(variables(model) | {name: np.array(each) for name, each in history.items()})
    assert_same(*results)


def test_every_way_of_feeding_takes_every_batch():
    def generator() -> Iterator:
        for first in range(0, COUNT, 5):
            yield X[first : first + 5], {name: each[first : first + 5] for name, each in Y.items()}

    results, logs = [], []
    model = compiled(steps_per_execution=3)
    model.fit(batches(X, Y), verbose=0)
    results.append(variables(model))
    for eagerly in (False, True):
        model = compiled(run_eagerly=eagerly)
        for x, y in generator():
            logs.append(model.train_on_batch(x, y, return_dict=True)["loss"])
        results.append(variables(model))
    model = compiled(run_eagerly=True, steps_per_execution=2)
    model.fit(generator(), verbose=0)
    results.append(variables(model))
    for other in results[1:]:
        assert_same(results[0], other)
    np.testing.assert_allclose(logs[:5], logs[5:], atol=1e-12)


def test_each_optimizer_updates_what_it_owns():
    still = keras.optimizers.SGD(0.0)
    model = compiled(optimizers={"shared": still, "mass": keras.optimizers.SGD(1.0)}, run_eagerly=True)
    before = variables(model)
    model.train_on_batch(X, Y)
    changed = {name for name, value in variables(model).items() if not np.array_equal(value, before[name])}
    assert changed == {f"{head}/{part}" for head in LOSSES for part in ("kernel", "bias")}


def test_an_optimizer_without_a_variable_is_refused_and_evaluation_works():
    inputs = keras.Input((5,))
    output = keras.layers.Dense(2)(inputs)
    model = MultiLossModel(inputs, {"a": output, "b": keras.layers.Rescaling(2.0)(output)})
    model.compile(loss="mse", optimizers={"b": "sgd"}, run_eagerly=True)
    y = {"a": Y["size"], "b": Y["size"]}
    assert model.evaluate(X, y, verbose=0, return_dict=True).keys() == {"loss", "a_loss", "b_loss"}
    with pytest.raises(ConfigError, match="optimizers.b=.*owns nothing"):
        model.fit(X, y, verbose=0)


def test_a_step_that_is_not_finite_changes_nothing_and_shows():
    model = compiled(run_eagerly=True)
    model.train_on_batch(X, Y)
    before = variables(model)
    assert np.isnan(model.train_on_batch(np.where(X > 2, np.inf, X), Y, return_dict=True)["loss"])
    assert_same(variables(model), before, atol=0)

    # The square root's gradient at 0 is no number, though the loss is one.
    model = compiled(loss=LOSSES | {"mass": lambda target, output: keras.ops.sqrt(output * 0)}, run_eagerly=True)
    before = variables(model)
    assert np.isnan(model.train_on_batch(X, Y, return_dict=True)["loss"])
    assert_same(variables(model), before, atol=0)


def test_diagnostics_are_of_the_losses_gradients():
    model = compiled(diagnostics=True, combine="upgrad", run_eagerly=True, loss_weights={})
    with tf.GradientTape(persistent=True) as tape:
        outputs = model(X)
        losses = [tf.reduce_mean(keras.losses.get(LOSSES[name])(Y[name], outputs[name])) for name in LOSSES]

    def gradients(layer):
        values = [variable.value for variable in layer.trainable_variables]
        found = (tape.gradient(loss, values, unconnected_gradients="zero") for loss in losses)
        return [np.concatenate([np.ravel(each) for each in own]) for own in found]

    flat, shared = gradients(model), gradients(model.get_layer("trunk"))
    logs = model.train_on_batch(X, Y, return_dict=True)
    for name, gradient in zip(LOSSES, flat, strict=True):
        assert logs[f"grad_norm_{name}"] == pytest.approx(np.linalg.norm(gradient))
    cosine = shared[0] @ shared[1] / np.linalg.norm(shared[0]) / np.linalg.norm(shared[1])
    assert logs["cosine_kind_size"] == pytest.approx(cosine)
    assert all(logs[f"coefficient_{name}"] >= 0 for name in LOSSES)
