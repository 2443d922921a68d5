"""Half precision: the loss scale's rules, and runs that overflow."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.distributed import strategy as strategy_lib
from trainer.run import experiment
from trainer.step.loss_scale import INITIAL, LossScale


@pytest.mark.parametrize(
    ("scale", "good", "finite", "expected"),
    [
        (8.0, 5, True, (8.0, 6)),
        (8.0, 5, False, (4.0, 0)),
        (8.0, 1999, True, (16.0, 0)),
        (1.0, 5, False, (1.0, 0)),
        (2.0**24, 1999, True, (2.0**24, 0)),
    ],
)
def test_the_scale_after_a_step(scale, good, finite, expected):
    after = LossScale(tf.constant(scale), tf.constant(good, tf.int64)).after(tf.constant(finite))
    assert (float(after.scale), int(after.good_steps)) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"combine__name": "pcgrad"},
        pytest.param({"reduction": "fused", "probe_every": 3}, marks=pytest.mark.ci_only),
        pytest.param({"reduction": "features", "combine__name": "pcgrad"}, marks=pytest.mark.ci_only),
        pytest.param({"combine__name": "pcgrad", "combine__update_every": 4}, marks=pytest.mark.ci_only),
    ],
    ids=["per loss", "fused", "features", "lasting weights"],
)
def test_an_overflow_halves_the_scale_and_skips_the_step(changes):
    """The number's gradients, thousands of times larger, exceed float16's largest number at first.

    A schedule counts such steps: the label's learning rate is 0 after the first step, which is skipped.
    """
    first_only = {"name": "piecewise_constant_decay", "boundaries": [0], "values": [0.5, 0.0]}
    built = experiment.build(
        problems.config(
            precision="mixed_float16",
            losses__number__loss="tests.trainer.step.test_loss_scale:steep",
            losses__label__optimizer={"name": "sgd", "learning_rate": first_only},
            **changes,
        ),
        problems.strategy(2),
    )
    loop, iterator, state = built.step.build(), iter(built.batches(0)), built.step.initial_state()
    before = {variable.path: variable.numpy() for variable in built.model.trainable_variables}
    label = before["head_label_0_dense/kernel"]
    skipped = taken = 0
    for step in range(14):
        numbers = (tf.constant(number, tf.int64) for number in (step, 1))
        scale = float(state.loss_scale.scale)
        state, totals = loop(iterator, *numbers, tf.constant(True), state, built.step.initial_totals())
        assert int(totals.failed_step) == -1
        after = {variable.path: variable.numpy() for variable in built.model.trainable_variables}
        if totals.counts.numpy().any():
            taken += 1
            assert float(state.loss_scale.scale) == scale
            assert not np.array_equal(after["trunk_0_dense/kernel"], before["trunk_0_dense/kernel"])
        else:
            skipped += 1
            assert not totals.cosine_counts.numpy().any()
            assert float(state.loss_scale.scale) == scale / 2
            for name, value in before.items():
                np.testing.assert_array_equal(after[name], value)
        before = after
    assert skipped == math.log2(INITIAL / float(state.loss_scale.scale)) > 0
    assert taken > 0
    np.testing.assert_array_equal(before["head_label_0_dense/kernel"], label)


def steep(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    return 5e3 * tf.abs(target - prediction[:, 0])


def test_a_loss_that_is_not_finite_is_no_overflow():
    """A smaller scale would not help."""
    changes = {
        "precision": "mixed_float16",
        "losses__vector_l1__loss": "tests.problems:exploding_loss",
        "losses__vector_l1__optimizer": {"name": "sgd", "learning_rate": 0.5},
        "shared_optimizer": {"name": "sgd", "learning_rate": 0.5},
    }
    built = experiment.build(problems.config(**changes), problems.strategy(1))
    numbers = (tf.constant(number, tf.int64) for number in (0, 60))
    totals = built.step.build()(
        iter(built.batches(0)), *numbers, tf.constant(True), built.step.initial_state(), built.step.initial_totals()
    )[1]
    assert int(totals.failed_step) > 0
    assert dict(zip(problems.LOSSES, totals.failed.numpy(), strict=True))["vector_l1"]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.ci_only), "mixed_float16"])
def test_half_precision_is_near_full_precision(precision):
    """One step: losses and gradient norms within the roundings of 8 and 11 bits; variables stay float32."""
    full, half = (problems.run(2, 1, precision=p, combine__name="pcgrad") for p in ("float32", precision))
    np.testing.assert_allclose(half.losses, full.losses, rtol=0.02)
    np.testing.assert_allclose(half.grad_norms, full.grad_norms, rtol=0.02)
    assert not np.array_equal(half.grad_norms, full.grad_norms)
    assert {value.dtype for value in half.variables.values()} == {np.dtype("float32")}


def test_a_device_without_half_precision_is_warned_of():
    warning = strategy_lib.half_precision_warning(problems.strategy(1), "mixed_float16")
    assert "precision='mixed_float16'" in warning
    assert "slower" in warning
    assert strategy_lib.half_precision_warning(problems.strategy(1), "float32") is None
