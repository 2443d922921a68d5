"""Errors of losses, optimizers and data: axes, arguments, unknown shapes, reasons, numbers that are not finite."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.examples import Examples
from tests import problems
from trainer.common import errors
from trainer.common.durations import Timeline
from trainer.common.errors import ConfigError
from trainer.components import losses, optimizers, predictions
from trainer.config import loading
from trainer.run import experiment

_HERE = "tests.trainer.components.test_loss_messages"
SHAPE = (4, 6, 5, 2)


def _named(loss: Any) -> losses.NamedLoss:
    tree = problems.tree(losses={"l": {"head": "label", "target": "t", "loss": loss}}, model__heads={"label": []})
    return losses.build("l", loading.resolve(tree).losses["l"])


def _sums(loss: Any, shape: tuple[int, ...] = SHAPE) -> losses.LossSums:
    keras.config.set_floatx("float64")
    target, prediction = (np.random.RandomState(seed).uniform(size=shape) for seed in (0, 1))
    outputs = predictions.of({"label": tf.constant(prediction)})
    return losses.sums(_named(loss), outputs, {"targets": {"t": tf.constant(target)}})


@pytest.mark.parametrize("name", ["dice", "tversky"])
@pytest.mark.parametrize(("shape", "axis"), [(SHAPE, [1, 2, 3]), ((4, 3), [1])])
def test_a_loss_over_all_axes_names_the_argument_that_keeps_examples_apart(name, shape, axis):
    with pytest.raises(ConfigError) as caught:
        _sums(name, shape)
    assert str(caught.value) == (
        f"losses.l.loss='{name.title()}': returns a scalar; it must return one value per example: "
        f"set losses.l.loss.axis={axis}, all axes but that of the examples"
    )
    own = getattr(keras.losses, name)
    target, prediction = (np.random.RandomState(seed).uniform(size=shape) for seed in (0, 1))
    expected = sum(float(own(target[i : i + 1], prediction[i : i + 1])) for i in range(4))
    assert float(_sums({"name": name, "axis": axis}, shape).loss_sum) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("name", "axis"), [("dice", [0, 1]), ("cosine_similarity", 0)])
def test_the_axis_of_the_examples_is_refused(name, axis):
    with pytest.raises(ConfigError, match=r"losses.l.loss.axis=.*: must not hold 0, the axis of the examples"):
        _named({"name": name, "axis": axis})


@pytest.mark.parametrize("argument", ["reductoin", "reduce", "names"])
def test_a_loss_offers_no_argument_that_is_refused(argument):
    with pytest.raises(ConfigError) as caught:
        _named({"name": "huber", argument: "sum"})
    assert str(caught.value) == f"losses.l.loss.{argument}='sum': unknown argument; allowed: delta"


@pytest.mark.parametrize("argument", ["use_emma", "gradient_accumulation", "loss_scale"])
def test_an_optimizer_offers_no_argument_that_is_refused(argument):
    timeline = Timeline.of(10, batch_size=2, examples=10)
    with pytest.raises(ConfigError) as caught:
        optimizers.build({"name": "sgd", argument: 1}, "shared_optimizer", timeline)
    assert str(caught.value) == (
        f"shared_optimizer.{argument}=1: unknown argument; allowed: clipnorm, clipvalue, global_clipnorm, "
        "learning_rate, momentum, nesterov, weight_decay"
    )


class Cubes(keras.losses.Loss):
    """A class without the arguments that Keras' own have."""

    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.factor = factor

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return self.factor * tf.reduce_sum(tf.abs(y_true - y_pred) ** 3, axis=[1, 2, 3])


def test_a_class_of_the_users_own_need_not_take_a_reduction():
    target, prediction = (np.random.RandomState(seed).uniform(size=SHAPE) for seed in (0, 1))
    result = _sums({"name": f"{_HERE}:Cubes", "factor": 2.0})
    assert float(result.loss_sum) == pytest.approx(2 * float(np.sum(np.abs(target - prediction) ** 3)))
    assert float(result.weight_sum) == 4


def squares_in_python(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    return tf.py_function(lambda t, p: tf.reduce_mean(tf.square(t - p), axis=-1), [target, prediction], target.dtype)


def scalar_in_python(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    return tf.py_function(lambda t, p: tf.reduce_mean(tf.square(t - p)), [target, prediction], target.dtype)


class InPython(keras.layers.Layer):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.py_function(lambda x: 2 * x, [inputs], inputs.dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


def refusing(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    tf.debugging.Assert(tf.reduce_all(tf.abs(target) < 1e-3), ["targets are too large, by far"])
    return tf.reduce_mean(tf.square(target - prediction), axis=-1)


def out_of_range(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    there = tf.constant([1.0, 2.0], prediction.dtype)
    return tf.reduce_mean(tf.square(target - prediction), axis=-1) * tf.gather(there, tf.shape(prediction)[0] + 5)


def load(part: str = "inputs", example: int = 5, value: float = float("nan")) -> dict[str, Examples]:
    splits = {split: np.random.RandomState(0).normal(size=(12, 3)) for split in ("train", "validation")}
    found = {split: Examples({"x": x.copy()}, {"a": x[:, :1].copy(), "b": x.copy()}) for split, x in splits.items()}
    (found["validation"].inputs["x"] if part == "inputs" else found["validation"].targets["b"])[example:, 1] = value
    return found


def _tree(loss: str = "mse", trunk: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
    heads = {name: [{"layer": "Dense", "units": units}] for name, units in {"a": 1, "b": 3}.items()}
    return {
        "batch_size": 6,
        "steps": 2,
        "precision": "float64",
        "dataset": {"name": f"{_HERE}:load", "options": {"value": 0.0} | options},
        "model": {"trunk": [{"layer": f"{_HERE}:{layer}"} for layer in trunk], "heads": heads},
        "losses": {"a": {"loss": loss if ":" not in loss else "mse"}, "b": {"loss": loss}},
    }


def _build(replicas: int = 1, **changes: Any) -> experiment.Experiment:
    return experiment.build(loading.resolve(_tree(**changes)), problems.strategy(replicas))


def test_a_loss_in_python_is_the_same_loss():
    """`tf.py_function` says nothing of its shape: that is one value per example, in training and in evaluation."""
    own, expected = (
        problems.train(_build(loss=loss), 2, evaluate=True) for loss in (f"{_HERE}:squares_in_python", "mse")
    )
    problems.assert_same(own, expected)


@pytest.mark.parametrize(
    ("replicas", "loss", "reason"),
    [
        (1, "refusing", "targets are too large, by far"),
        pytest.param(2, "refusing", "targets are too large, by far", marks=pytest.mark.ci_only),
        (3, "out_of_range", "indices = {} is not in [0, 2)"),
        (
            2,
            "scalar_in_python",
            "losses.b.loss=scalar_in_python: must return one value per example; it returns 1 values along 0 axes for "
            "{examples} examples",
        ),
    ],
)
def test_an_error_in_the_graph_gives_its_reason_on_any_number_of_devices(replicas, loss, reason):
    evaluate = _build(replicas, loss=f"{_HERE}:{loss}").evaluator.build()
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        evaluate()
    examples = 6 // replicas
    assert errors.reason_of(caught.value) == reason.format(examples + 5, examples=examples)


def test_the_reason_is_that_of_the_replica_that_failed_first():
    error = tf.errors.InvalidArgumentError(
        None,
        None,
        'Graph execution error:\n\nDetected at node x defined at (most recent call last):\n  File "a.py", line 3\n\n'
        "2 root error(s) found.\n  (0) CANCELLED:  Function was cancelled before it was started\n"
        "  (1) INVALID_ARGUMENT:  ValueError: in the user's words\nTraceback (most recent call last):\n\n"
        "ValueError: in the user's words\n\n\n\t [[{{node y}}]]\n0 successful operations.\n1 derived errors ignored.",
    )
    assert errors.reason_of(error) == "ValueError: in the user's words"


def test_a_layer_without_a_shape_names_what_gives_it_one():
    with pytest.raises(ConfigError, match=r"fails with training=True: a tensor has no known shape.*tf.ensure_shape"):
        _build(trunk=("InPython",))


class ZeroForNan(keras.layers.Layer):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.math.is_finite(inputs), inputs, tf.zeros_like(inputs))


def finite_only(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    known = tf.math.is_finite(target)
    return tf.reduce_mean(tf.where(known, tf.square(tf.where(known, target, 0.0) - prediction), 0.0), axis=-1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("part", "example", "message"),
    [
        (
            "inputs",
            5,
            "dataset.validation.inputs.x='example 5': input 'x' of the validation split holds {} there, and so does "
            "head 'a'; put a number in its place",
        ),
        (
            "targets",
            7,
            "dataset.validation.targets.b='example 7': target 'b' of the validation split holds {} there, and so does "
            "loss 'b'; where an example has no label, give it the weight 0 in weights.b",
        ),
    ],
)
def test_numbers_that_are_not_finite_are_named_before_the_first_step(part, example, message, value):
    with pytest.raises(ConfigError) as caught:
        _build(part=part, example=example, value=value)
    assert str(caught.value) == message.format(value)


def test_a_model_or_a_loss_of_the_users_own_may_take_them():
    nan = float("nan")
    assert _build(trunk=("ZeroForNan",), value=nan).losses
    assert _build(loss=f"{_HERE}:finite_only", part="targets", value=nan).losses
