"""`compile: loop` gives what the same steps give without XLA, and says what it cannot compile."""

import time

import numpy as np
import pytest
import tensorflow as tf

from tests import eager, problems
from tests.properties import built_once, interrupted
from trainer.common.errors import ConfigError
from trainer.output import history
from trainer.run import experiment, failures, loop

STEPS = 6
MISSING = {"dataset__options": {"missing": True}}
DRAWING = {"layer": "Dropout", "rate": 0.5}


def text_loss(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """A loss of an operation that XLA does not have."""
    return tf.square(target - prediction[:, 0]) * tf.strings.to_number(tf.as_string(target), tf.float64)


@pytest.mark.parametrize(
    ("combine", "changes"),
    [
        ("weighted", {"reduction": "auto", "ema": 0.9, "losses__label__every": 2} | MISSING),
        *(
            pytest.param(*case, marks=pytest.mark.ci_only)
            for case in (
                ("weighted", {"reduction": "fused", "probe_every": 2, "train_metrics": True}),
                ("random", {"reduction": "fused", "combine__use_weights": True}),
                ("famo", {"reduction": "auto", "clip_norm": 0.1}),
                ("pcgrad", MISSING),
                ("gradvac", {"combine__smoothing": 0.5}),
                ("upgrad", {"reduction": "features"}),
                ("cagrad", {"combine__update_every": 2}),
                ("modo", {}),
                ("moco", {}),
                ("graddrop", {}),
                ("independent", MISSING),
            )
        ),
    ],
)
def test_equals_the_loop_that_is_not_compiled(combine, changes):
    """Steps in three calls, each with its own rows, a report between them."""
    changes = problems.SIMPLE | {"combine__name": combine} | changes
    with eager.functions():
        expected = problems.run(1, STEPS, calls=3, **changes)
    problems.assert_same(problems.run(1, STEPS, calls=3, compile="loop", **changes), expected)


@pytest.mark.ci_only
def test_a_run_resumes_exactly_and_compiles_once(tmp_path):
    """Its reports are those without XLA; calls of other numbers of steps compile nothing anew."""
    seconds = []

    def timed(function):
        def call(self, *arguments):
            start = time.process_time()
            result = function(self, *arguments)
            seconds.append(time.process_time() - start)
            return result

        return call

    changes = problems.SIMPLE | {"precision": "float64"}
    with pytest.MonkeyPatch.context() as patched, built_once.building_once():
        patched.setattr(loop.Loop, "_take", timed(loop.Loop._take))
        interrupted.assert_goes_on_exactly(tmp_path, 1, compile="loop", **changes)
    assert max(seconds) < 0.3, seconds  # a compilation takes longer
    with eager.functions():
        interrupted.train(tmp_path / "off", **changes)
    reports = [list(history.Reports(tmp_path / name / "metrics.jsonl")) for name in ("run", "off")]
    assert len(reports[0]) == 5
    for own, other in zip(*reports, strict=True):
        assert (own.step, own.split) == (other.step, other.split)
        assert own.values == pytest.approx(other.values, rel=0, abs=1e-9)


@pytest.mark.ci_only
def test_a_step_that_is_not_finite_changes_nothing_and_ends_the_loop():
    changes = problems.SIMPLE | {"losses__number__loss": "tests.problems:exploding_loss"}
    changes |= {"losses__number__optimizer": {"name": "sgd", "learning_rate": 10.0}}
    found = []
    for compiled in ("off", "loop"):
        built = experiment.build(problems.config(compile=compiled, **changes), problems.strategy(1))
        arguments = loop.arguments(0, 20, True), built.step.initial_state(), built.step.initial_totals()
        _, totals = built.step.build()(built.source(0), *arguments[0], *arguments[1:])
        found.append((totals, [variable.numpy() for variable in built.model.trainable_variables]))
    (expected, before), (totals, after) = found
    assert 0 < int(totals.failed_step) == int(expected.failed_step) < 20
    np.testing.assert_array_equal(totals.failed, expected.failed)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"micro_batches": 11}, "needs the whole batch at once; leave micro_batches at 1"),
        ({"combine__name": "imtl_g"}, "has eigenvectors to 1e-8 only, on which 'imtl_g' relies"),
        ({"combine__name": "aligned_mtl"}, "has eigenvectors to 1e-8 only"),
    ],
)
def test_settings_that_it_cannot_hold_are_refused_at_once(changes, words):
    with pytest.raises(ConfigError, match=f"^compile='loop': {words}"):
        problems.config(compile="loop", **changes)


def test_a_call_of_too_many_steps_is_refused():
    with pytest.raises(ConfigError, match="^steps_per_loop=1000000: must be at most 381300 with compile='loop'"):
        experiment.build(problems.config(compile="loop", steps_per_loop=10**6), problems.strategy(1))


def test_several_devices_are_refused():
    with pytest.raises(ConfigError, match="^compile='loop': is for one device, and there are 2; use 'passes'"):
        experiment.build(problems.config(compile="loop"), problems.strategy(2))


@pytest.mark.ci_only
def test_what_xla_does_not_have_is_named():
    changes = problems.SIMPLE | {"losses__number__loss": f"{__name__}:text_loss", "reduction": "fused"}
    built = experiment.build(problems.config(compile="loop", **changes), problems.strategy(1))
    with pytest.raises(ConfigError) as caught, failures.tracing():
        built.step.build().get_concrete_function(
            built.source(0), *loop.arguments(0, 0, False), built.step.initial_state(), built.step.initial_totals()
        )
    words = "asks XLA to compile the operation AsString, which it cannot; leave it 'off'"
    assert str(caught.value) == f"compile='loop': {words}"


def test_a_model_that_draws_is_told_that_it_draws_other_numbers():
    built = experiment.build(
        problems.config(compile="loop", **problems.SIMPLE | {"model__trunk": [DRAWING]}), problems.strategy(1)
    )
    assert built.notes == ("the model or a loss draws random numbers, and with compile='loop' others than without",)
