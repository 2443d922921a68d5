"""Settings around every kind of combination method, and steps that a method cannot take."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from tests import problems
from tests.properties.method_steps import MISSING, PLAIN, SGD, build, first_step, one_step
from trainer.combine.registry import METHODS, ONE_PASS
from trainer.common.errors import ConfigError, LogarithmError
from trainer.config import loading, settings
from trainer.run import experiment
from trainer.run import train as train_lib

# Variants that are equal to the same run on one replica, or without them.
AROUND = {
    "smoothed": ("mgda", {"combine__smoothing": 0.7}),
    "smoothed, a mixing matrix, per loss": ("pcgrad", {"combine__smoothing": 0.7, "combine__apply": "per_loss"}),
    "log losses": ("cagrad", {"combine__log_losses": True}),
    "log losses, weights that last": ("upgrad", {"combine__log_losses": True, "combine__update_every": 3}),
    "log losses, features": ("mgda", {"combine__log_losses": True, "reduction": "features"}),
    "log losses, per variable": (
        "normalized",
        {"combine__log_losses": True, "combine__normalized": {"per_variable": True}},
    ),
    "weights that last, loss-valued": ("famo", {"combine__update_every": 3}),
    "weights that last, two halves": ("sdmgrad", {"combine__update_every": 2}),
    "scaled losses": ("famo", {"combine__use_weights": True}),
    "scaled losses, elements": ("trimmed_mean", {"combine__use_weights": True}),
    "moving averages of scaled log losses": ("moco", {"combine__use_weights": True, "combine__log_losses": True}),
    "features with state": ("gradnorm", {"reduction": "features"}),
    "fused": ("famo", {"reduction": "fused", "probe_every": 3}),
}


@pytest.mark.ci_only
@pytest.mark.parametrize(
    ("name", "changes"),
    [pytest.param(*variant, id=key) for key, variant in AROUND.items()],
)
def test_what_is_put_around_methods_does_not_depend_on_the_number_of_replicas(name, changes):
    changes = {"combine__name": name} | changes | problems.SIMPLE | MISSING
    problems.assert_same(problems.run(2, 8, **changes), problems.reference(8, **changes))


@pytest.mark.parametrize(
    "name",
    problems.methods(name for name, method in METHODS.items() if method.looks_at in ONE_PASS and not method.per_loss),
)
def test_fused_is_the_same(name):
    """On two replicas the same as a pass per loss on one."""
    changes = {"combine__name": name} | problems.SIMPLE | MISSING
    fused = problems.run(2, 6, reduction="fused", probe_every=4, **changes)
    problems.assert_same(fused, problems.reference(6, **changes), reports=False)


@pytest.mark.parametrize("name", ["modo", pytest.param("moco", marks=pytest.mark.ci_only)])
def test_micro_batches_of_odd_size(name):
    """The halves are those of the whole batch, here on one replica: its even and its odd positions."""
    changes = {"combine__name": name, "batch_size": 12} | problems.SIMPLE | MISSING
    problems.assert_same(problems.run(2, 5, micro_batches=4, **changes), problems.reference(5, **changes))


def test_lasting_weights_are_those_of_the_last_full_step():
    """`random` draws none in between, so with plain SGD the steps between are sums with the first step's weights."""
    built = build(1, "random", combine__update_every=3, **PLAIN)
    train, iterator, state = built.step.build(), iter(built.batches(0)), built.step.initial_state()
    weights = []
    for step in range(6):
        state, _ = one_step(built, train, iterator, step, state)
        weights.append(state.coefficients.numpy())
    for step in (1, 2, 4, 5):
        np.testing.assert_array_equal(weights[step], weights[step // 3 * 3])
    assert not np.array_equal(weights[0], weights[3])


# ---------------------------------------------------------------------------------------------------------------------
# Problems without a solution, and losses without a logarithm.
# ---------------------------------------------------------------------------------------------------------------------


def opposed(seed: int = 0) -> dict[str, problems.Examples]:
    """Two examples, whose losses have opposite gradients."""
    del seed
    split = problems.Examples(np.array([[[1.0, 2.0], [-2.0, -4.0]]] * 2), {"none": np.zeros(2)})
    return {"train": split, "validation": split}


def _opposed(name: str) -> settings.Config:
    loss = {"target": "none", "loss": "tests.problems:output_itself"}
    return loading.resolve(
        {
            "batch_size": 2,
            "dataset": {"name": "tests.properties.test_methods_around:opposed"},
            "model": {"name": "tests.problems:linear_rows_model"},
            "losses": {k: {"head": k} | loss for k in ("a", "b")},
            "combine": {"name": name},
        }
    )


FALLING_BACK = [name for name, method in METHODS.items() if method.may_fall_back]


@pytest.mark.parametrize(
    "name", [FALLING_BACK[0], *(pytest.param(name, marks=pytest.mark.ci_only) for name in FALLING_BACK[1:])]
)
def test_steps_without_a_solution_are_counted(name):
    built = experiment.build(_opposed(name), problems.strategy(2))
    train, iterator = built.step.build(), iter(built.batches(0))
    numbers = (tf.constant(value, tf.int64) for value in (0, 5))
    _, totals = train(iterator, *numbers, tf.constant(True), built.step.initial_state(), built.step.initial_totals())
    assert int(totals.fallbacks) == 5
    assert int(totals.failed_step) == -1


def test_reports_hold_weights_and_fallbacks(tmp_path):
    config = dataclasses.replace(_opposed("nash_mtl"), steps=6, report_every=3, eval_every=6)
    history = train_lib.train(config, str(tmp_path / "run"), problems.strategy(1), Console(file=io.StringIO()))
    reports = [report.values for report in history if report.split == "train"]
    assert [values["fallbacks"] for values in reports] == [3, 3]
    # Means of the rows (1, 2) and (-2, -4) at unit length.
    for values in reports:
        assert values["coefficient/a"] == pytest.approx(0.5 / 5**0.5)
        assert values["coefficient/b"] == pytest.approx(0.25 / 5**0.5)
    assert "In 6 steps the gradients left nash_mtl without a solution" in (tmp_path / "run" / "report.md").read_text()


def shifted(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """A squared error that is negative where it is small."""
    return tf.reduce_mean(tf.square(target - prediction), axis=-1) - 100.0


SHIFTED = {"losses__vector__loss": "tests.properties.test_methods_around:shifted"}


@pytest.mark.parametrize(
    "changes",
    [
        {"combine__name": "geometric", "reduction": "fused"},
        *(
            pytest.param(changes, marks=pytest.mark.ci_only)
            for changes in (
                {"combine__name": "famo"},
                {"combine__name": "log_sum"},
                {"combine__name": "mgda", "combine__log_losses": True, "reduction": "features"},
                {"combine__name": "db_mtl"},
            )
        ),
    ],
    ids=lambda changes: changes["combine__name"],
)
def test_a_loss_without_a_logarithm_ends_the_run(tmp_path, changes):
    config = problems.config(steps=12, **problems.SIMPLE | changes | SHIFTED)
    with pytest.raises(LogarithmError, match=r"^step 1: loss 'vector' is -9\d\.\d+, but combine=.* above 0") as caught:
        train_lib.train(config, str(tmp_path / "run"), problems.strategy(1), Console(file=io.StringIO()))
    assert list(caught.value.losses) == ["vector"]
    assert (tmp_path / "run" / "config.json").exists()


@pytest.mark.usefixtures("eagerly")
def test_famo_notices_a_loss_that_the_update_takes_below_its_bound():
    bounds = [0.0] * len(problems.LOSSES)
    _, totals = first_step(build(2, "famo"))
    bounds[1] = float(totals.losses[1]) * 0.9999
    built = build(2, "famo", combine__famo={"lower_bounds": bounds}, losses__number__optimizer=SGD)
    _, totals = first_step(built)
    assert int(totals.failed_step) == 0
    np.testing.assert_array_equal(totals.failed, [False, True, False, False])
    assert totals.failed_losses[1] < bounds[1]


def test_missing_losses_need_no_logarithm():
    """A loss without a label is 0 in that step and no mistake."""
    result = problems.run(1, 6, combine__name="log_sum", **MISSING)
    assert np.isnan(result.losses).any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"combine__name": "cagrad", "combine__cagrad": {"c": 1.0}}, "combine.cagrad.c=1.0: .*below 1"),
        ({"combine__name": "gradnorm", "combine__gradnorm": {"alpha": -1}}, "combine.gradnorm.alpha=-1: .*at least 0"),
        ({"combine__name": "upgrad", "combine__upgrad": {"preference": [1, 2]}}, "preference.*each of the 4 losses"),
        ({"combine__name": "modo", "batch_size": 1}, "batch_size=1: must be at least 2.*modo"),
        ({"combine__name": "graddrop", "combine__apply": "per_loss"}, "combine.apply='per_loss'.*graddrop"),
        ({"combine__name": "famo", "micro_batches": 2, "batch_size": 12}, "micro_batches=2: must be 1.*famo"),
        ({"combine__name": "trimmed_mean", "combine__trimmed_mean": {"trim": 2}}, "trim=2.*at least 5 losses"),
        ({"combine__name": "log_sum", "combine__log_losses": True}, "combine.log_losses=True.*log_sum"),
        ({"combine__name": "db_mtl", "combine__log_losses": True}, "combine.log_losses=True.*already"),
        ({"combine__smoothing": 0.5}, "combine.smoothing=0.5.*weighted"),
        ({"combine__name": "mgda", "combine__smoothing": 1.0}, "combine.smoothing=1.0.*below 1"),
        ({"combine__name": "moco", "combine__update_every": 2}, "combine.update_every=2.*moving averages"),
        ({"combine__name": "famo", "combine__update_every": 2, "reduction": "fused"}, "update_every=2.*fused"),
        ({"combine__name": "modo", "reduction": "features"}, "reduction='features'.*half of the batch"),
        ({"combine__name": "moco", "reduction": "fused"}, "reduction='fused'.*moving averages"),
        (
            {"combine__name": "log_sum", "reduction": "fused", "micro_batches": 2, "batch_size": 12},
            "reduction='fused'.*losses of the whole batch.*leave micro_batches at 1",
        ),
        ({"combine__name": "log_sum", "reduction": "fused", "compile": "passes"}, "leave compile 'off'"),
    ],
)
def test_what_cannot_hold_is_refused_with_a_reason(changes, words):
    with pytest.raises(ConfigError, match=words):
        experiment.build(loading.resolve(problems.tree(**changes)), problems.strategy(1))
