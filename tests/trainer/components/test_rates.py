"""Learning rates of single variables, and of all once a metric no longer improves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.common.errors import ConfigError
from trainer.components import rates
from trainer.components.rates import RateScale
from trainer.config import loading

SHAPES, FACTORS = ((4, 3), (3,), (3, 2)), (0.1, 1.0, 2.5)
STEPS = 4


@pytest.fixture(autouse=True)
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


def _variables():
    random = np.random.RandomState(3)
    return [keras.Variable(random.normal(size=shape), name=f"v{place}") for place, shape in enumerate(SHAPES)]


def _gradients(step):
    random = np.random.RandomState(step)
    return [tf.constant(random.normal(size=shape)) for shape in SHAPES]


class Falling(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule in float64, which Keras' own are not."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, step):
        return 0.02 * self.factor / (1 + tf.cast(step, tf.float64))


class OwnRate(keras.optimizers.SGD):
    """An optimizer of one's own that reads its rate itself."""

    def update_step(self, gradient, variable, learning_rate):
        del learning_rate
        self.assign_sub(variable, gradient * tf.cast(self.learning_rate, variable.dtype))


KINDS = {
    "sgd": (keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.2}),
    "adamw": (keras.optimizers.AdamW, {"weight_decay": 0.3, "amsgrad": True}),
    "nadam": (keras.optimizers.Nadam, {}),
    "lamb": (keras.optimizers.Lamb, {"weight_decay": 0.3}),
    "adafactor": (keras.optimizers.Adafactor, {}),
    "muon": (keras.optimizers.Muon, {"weight_decay": 0.3, "adam_weight_decay": 0.2}),
    "rmsprop": (keras.optimizers.RMSprop, {"centered": True, "clipnorm": 0.5}),
    "ftrl": (keras.optimizers.Ftrl, {}),
    "lion": (keras.optimizers.Lion, {"weight_decay": 0.1}),
    "own": (OwnRate, {"weight_decay": 0.1}),
}


@pytest.mark.parametrize("rate", [lambda factor: 0.02 * factor, Falling], ids=["number", "schedule"])
@pytest.mark.parametrize(("kind", "arguments"), KINDS.values(), ids=KINDS)
def test_as_optimizers_of_other_rates(kind, arguments, rate):
    """One optimizer with factors updates and decays as one optimizer for each factor."""
    variables = _variables()
    optimizer = kind(learning_rate=rate(1), **arguments)
    optimizer.build(variables)
    rates.adjust(optimizer, FACTORS, None)
    expected = _variables()
    apart = [kind(learning_rate=rate(factor), **arguments) for factor in FACTORS]
    for step in range(STEPS):
        optimizer.apply(_gradients(step), variables)
        for own, gradient, variable in zip(apart, _gradients(step), expected, strict=True):
            own.apply([gradient], [variable])
    for variable, other in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), other.numpy(), rtol=0, atol=1e-12)
    assert float(optimizer.learning_rate) == pytest.approx(float(apart[1].learning_rate))  # that of the optimizer


def test_clipping_is_of_all_variables():
    """Also of those with other rates: as of one optimizer that is given gradients which are clipped already."""
    variables, expected = _variables(), _variables()
    optimizer = keras.optimizers.SGD(0.1, global_clipnorm=0.7)
    optimizer.build(variables)
    rates.adjust(optimizer, FACTORS, None)
    optimizer.apply(_gradients(0), variables)
    clipped, norm = tf.clip_by_global_norm(_gradients(0), 0.7)
    assert norm > 1
    for variable, before, gradient, factor in zip(variables, expected, clipped, FACTORS, strict=True):
        np.testing.assert_allclose(variable.numpy(), before.numpy() - 0.1 * factor * gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rate", [0.02, Falling(1)], ids=["number", "schedule"])
def test_reduced_rates(rate):
    """On top of a schedule, to a minimum that the schedule alone may go below; with factors; in one graph."""
    variables, expected = _variables(), _variables()
    optimizer, scale = keras.optimizers.SGD(rate, weight_decay=0.5), RateScale(0.5, 0.006)
    optimizer.build(variables)
    rates.adjust(optimizer, FACTORS, scale)
    apply = tf.function(lambda *gradients: optimizer.apply(list(gradients), variables))
    for step, count in enumerate((0, 1, 1, 7)):
        scale.assign(count)
        own = rate if isinstance(rate, float) else float(rate(step))
        reduced = max(own * 0.5**count, min(own, 0.006))
        assert float(optimizer.learning_rate) == pytest.approx(reduced, rel=1e-12)
        apply(*_gradients(step))
        for variable, gradient, factor in zip(expected, _gradients(step), FACTORS, strict=True):
            decayed = variable.numpy() * (1 - 0.5 * reduced * factor)
            variable.assign(decayed - reduced * factor * gradient)
    assert apply.experimental_get_tracing_count() == 1
    for variable, other in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), other.numpy(), rtol=0, atol=1e-12)


def test_the_first_pattern_counts():
    names = ("trunk/dense/kernel", "trunk/dense/bias", "head/kernel")
    factors = {"*/bias": 3.0, "trunk/*": 0.1, "trunk/dense/kernel": 7.0}
    assert rates.by_name(factors, names) == dict(zip(names, (0.1, 3.0, 1.0), strict=True))
    assert rates.by_name({}, names) == dict.fromkeys(names, 1.0)


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        (
            {"tronk/*": 0.1},
            r"learning_rate_factors\.tronk/\*=0\.1: matches no variable that is trained; .*: head/kernel",
        ),
        ({"*": 0}, r"learning_rate_factors\.\*=0: must be a finite number above 0; freeze keeps"),
        ({"*": "x"}, r"learning_rate_factors\.\*='x': must be a finite number above 0"),
        ([0.1], r"learning_rate_factors=\[0\.1\]: must be a dictionary from patterns"),
        ({3: 0.1}, r"learning_rate_factors=3: must be a name"),
    ],
)
def test_factors_that_cannot_be_used(factors, words):
    with pytest.raises(ConfigError, match=words):
        rates.by_name(
            loading.resolve(problems.tree(learning_rate_factors=factors)).learning_rate_factors, ["head/kernel"]
        )
