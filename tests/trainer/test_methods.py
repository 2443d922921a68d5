"""What every kind of combination method makes of a step, on a model: by hand, and in every way to compute it."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from tests import problems
from trainer.combine import aggregate
from trainer.combine.registry import METHODS, ONE_PASS
from trainer.common.errors import ConfigError, LogarithmError
from trainer.components import losses
from trainer.config import loading, settings
from trainer.run import experiment
from trainer.run import train as train_lib
from trainer.run.experiment import Experiment
from trainer.step.values import State, Totals

SGD = {"name": "sgd", "learning_rate": 0.1}
PLAIN = {f"losses__{name}__optimizer": SGD for name in problems.LOSSES} | {"shared_optimizer": SGD}
MISSING = {"dataset__options": {"missing": True}}


def _build(replicas: int, name: str, **changes) -> Experiment:
    return experiment.build(problems.config(combine__name=name, **changes), problems.strategy(replicas))


def _step(built: Experiment, train, iterator, step: int, state: State) -> tuple[State, Totals]:
    numbers = (tf.constant(value, tf.int64) for value in (step, 1))
    return train(iterator, *numbers, tf.constant(True), state, built.step.initial_totals())


def _first_step(built: Experiment) -> tuple[State, Totals]:
    return _step(built, built.step.build(), iter(built.batches(0)), 0, built.step.initial_state())


def _values(built: Experiment) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in built.model.trainable_variables}


def _gradients(built: Experiment, batch, examples=slice(None)) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """Every loss's gradients of all variables over some examples of a batch, from one tape; and the losses."""
    part = tf.nest.map_structure(lambda array: array[examples], batch)
    variables = built.model.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        outputs = built.model(part["inputs"], training=True)
        sums = [losses.sums(loss, outputs, part) for loss in built.losses]
        means = [
            own.weighted / (own.weights if loss.normalizer == "weights" else own.per_example * len(part["inputs"]))
            for own, loss in zip(sums, built.losses, strict=True)
        ]
    found = []
    for mean in means:
        own = tape.gradient(mean, [variable.value for variable in variables])
        found.append(
            {v.path: np.zeros(v.shape) if g is None else g.numpy() for v, g in zip(variables, own, strict=True)}
        )
    return found, np.array([float(mean) for mean in means])


def _shared(built: Experiment) -> list[str]:
    return [built.step.reach.variables[v].path for v in built.step.reach.shared]


def _rows(gradients: list[dict[str, np.ndarray]], paths: list[str]) -> np.ndarray:
    return np.array([np.concatenate([own[path].ravel() for path in paths]) for own in gradients])


def _in_pieces(vector: np.ndarray, values: dict[str, np.ndarray], paths: list[str]) -> dict[str, np.ndarray]:
    ends = np.cumsum([values[path].size for path in paths])[:-1]
    return {path: part.reshape(values[path].shape) for path, part in zip(paths, np.split(vector, ends), strict=True)}


# ---------------------------------------------------------------------------------------------------------------------
# One step by hand.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", problems.methods())
def test_a_step_is_what_aggregate_gives(name):
    """Shared variables get the combined gradient; task-specific ones their own, which some methods weigh too."""
    built = _build(1, name, **PLAIN)
    batch, before, paths = next(iter(built.batches(0))), _values(built), _shared(built)
    whole, values = _gradients(built, batch)
    weights = [loss.weight for loss in built.config.losses.values()]
    arguments = {"losses": values, "weights": weights, "seed": built.config.seed}
    if name in ("modo", "sdmgrad"):
        halves = [_gradients(built, batch, slice(first, None, 2))[0] for first in (0, 1)]
        first, second = (_rows(half, paths) for half in halves)
        combined = aggregate(name, first, **arguments, jacobian2=second)
    else:
        combined = aggregate(name, _rows(whole, paths), **arguments)
    expected = _in_pieces(combined.numpy(), before, paths)
    state, totals = _first_step(built)
    after = _values(built)
    for v in built.step.reach.shared:
        path, by = built.step.reach.variables[v].path, built.step.reach.losses[v]
        if name == "trimmed_mean":  # of the losses that reach the variable: of two nothing is left out
            expected[path] = np.sort([whole[k][path] for k in by], axis=0)[(len(by) - 1) // 2 : len(by) // 2 + 1].mean(
                0
            )
        if name == "mean":
            expected[path] = np.mean([whole[k][path] for k in by], axis=0)
        if name != "graddrop":  # whose numbers are each variable's own
            np.testing.assert_allclose((before[path] - after[path]) / 0.1, expected[path], atol=1e-9, err_msg=path)
    joint = totals.measured.weights.numpy()
    for k in range(len(built.losses)):
        for v in built.step.reach.task_specific(k):
            path = built.step.reach.variables[v].path
            factor = joint[k] if METHODS[name].weighs_task_specific else 1.0
            np.testing.assert_allclose(
                (before[path] - after[path]) / 0.1, factor * whole[k][path], atol=1e-9, err_msg=path
            )
    assert set(state.combination) == set(built.step.combination.initial_state())


def _has_labels(batch, target: str) -> list[bool]:
    weights = batch["weights"].get(target)
    return [weights is None or bool(np.any(weights[half::2] > 0)) for half in (0, 1)]


def test_two_halves_with_missing_labels():
    """A loss with labels in one half only takes no part; the others' gradients are means over each half's labels."""
    built = _build(1, "modo", **PLAIN, **MISSING)
    train, iterator, batches = built.step.build(), iter(built.batches(0)), iter(built.batches(0))
    state, paths, in_one_half, in_both = built.step.initial_state(), _shared(built), 0, 0
    for step in range(8):
        batch, before = next(batches), _values(built)
        present = np.array([_has_labels(batch, loss.target) for loss in built.losses])  # (losses, halves)
        known = present.all(axis=1)
        in_one_half, in_both = in_one_half + np.sum(present.any(axis=1) & ~known), in_both + np.sum(known)
        remembered = state.combination["weights"].numpy()
        state, totals = _step(built, train, iterator, step, state)
        np.testing.assert_array_equal(totals.counts.numpy() > 0, known)
        weights, after = totals.measured.weights.numpy(), _values(built)
        assert np.all(weights[~known] == 0)
        np.testing.assert_array_equal(state.combination["weights"].numpy()[~known], remembered[~known])
        for variable in built.model.trainable_variables:
            variable.assign(before[variable.path])
        first = _rows(_gradients(built, batch, slice(0, None, 2))[0], paths)
        expected = _in_pieces(np.where(known, weights, 0) @ np.where(known[:, np.newaxis], first, 0), before, paths)
        for variable in built.model.trainable_variables:
            variable.assign(after[variable.path])
        for path in paths:
            np.testing.assert_allclose((before[path] - after[path]) / 0.1, expected[path], atol=1e-9, err_msg=path)
    assert in_one_half > 0
    assert in_both > 0


@pytest.mark.parametrize(("name", "keeps"), [("moco", 0.5), ("db_mtl", 0.9)])
def test_moving_averages_over_steps(name, keeps):
    """What is mixed are averages of the rows: of the losses' own gradients, or of those of their logarithms."""
    built = _build(1, name, **PLAIN)
    train, iterator, batches = built.step.build(), iter(built.batches(0)), iter(built.batches(0))
    state, paths, rows = built.step.initial_state(), _shared(built), 0.0
    for step in range(4):
        before = _values(built)
        gradients, values = _gradients(built, next(batches))
        own = _rows(gradients, paths) / (values[:, np.newaxis] if name == "db_mtl" else 1.0)
        rows = keeps * rows + (1 - keeps) * own
        state, totals = _step(built, train, iterator, step, state)
        expected, after = _in_pieces(totals.measured.weights.numpy() @ rows, before, paths), _values(built)
        for path in paths:
            np.testing.assert_allclose((before[path] - after[path]) / 0.1, expected[path], atol=1e-9, err_msg=path)
    if name == "db_mtl":
        norms = np.linalg.norm(rows, axis=1)
        np.testing.assert_allclose(totals.measured.weights, norms.max() / norms, rtol=1e-9)
    assert len(built.step.moving_rows.by_name) == sum(len(built.step.reach.losses[v]) for v in built.step.reach.shared)


NOISY = [
    {"layer": "Dense", "units": 7},
    {"layer": "BatchNormalization", "momentum": 0.5},
    {"layer": "Dropout", "rate": 0.5},
    {"layer": "Dense", "units": 5, "activation": "tanh"},
]
STILL = {"name": "sgd", "learning_rate": 0.0}


@pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.ci_only), 2])
def test_famo_looks_again_at_the_same_batch_with_the_same_masks(replicas):
    """Where nothing is learned the losses after the update are those before, so FAMO's own weights do not move."""
    frozen = {f"losses__{name}__optimizer": STILL for name in problems.LOSSES} | {"shared_optimizer": STILL}
    built = _build(replicas, "famo", **frozen, model__trunk=NOISY)
    state, _ = _first_step(built)
    np.testing.assert_allclose(state.combination["logits"], 0.0, atol=1e-12)
    plain = _build(replicas, "log_sum", **frozen, model__trunk=NOISY)
    _first_step(plain)
    for own, other in zip(built.model.non_trainable_variables, plain.model.non_trainable_variables, strict=True):
        if not own.path.endswith("seed_generator_state"):  # set anew in every step
            np.testing.assert_array_equal(own.numpy(), other.numpy(), err_msg=own.path)
    learning = _build(replicas, "famo", model__trunk=NOISY)
    state, _ = _first_step(learning)
    assert np.all(np.abs(state.combination["logits"].numpy()) > 1e-4)


def test_famo_moves_by_how_much_each_loss_fell():
    built = _build(1, "famo", **PLAIN)
    batch = next(iter(built.batches(0)))
    _, before = _gradients(built, batch)
    state, totals = _first_step(built)
    _, after = _gradients(built, batch)
    np.testing.assert_allclose(totals.losses, before, rtol=1e-9)
    fell = np.log(before + 1e-8) - np.log(after + 1e-8)
    gradient = (fell - fell.mean()) / len(fell)
    np.testing.assert_allclose(state.combination["adam_mean"], 0.1 * gradient, rtol=1e-7)
    np.testing.assert_allclose(state.combination["logits"], -0.025 * np.sign(gradient), rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# The same in another way, and around every method.
# ---------------------------------------------------------------------------------------------------------------------

# Variants that are equal to the same run on one replica, or without them.
AROUND = {
    "smoothed": ("mgda", {"combine__smoothing": 0.7}),
    "smoothed, a mixing matrix, per loss": ("pcgrad", {"combine__smoothing": 0.7, "combine__apply": "per_loss"}),
    "log losses": ("cagrad", {"combine__log_losses": True}),
    "log losses, weights that last": ("upgrad", {"combine__log_losses": True, "combine__update_every": 3}),
    "log losses, features": ("mgda", {"combine__log_losses": True, "gradients": "features"}),
    "log losses, per variable": (
        "normalized",
        {"combine__log_losses": True, "combine__normalized": {"per_variable": True}},
    ),
    "weights that last, loss-valued": ("famo", {"combine__update_every": 3}),
    "weights that last, two halves": ("sdmgrad", {"combine__update_every": 2}),
    "scaled losses": ("famo", {"combine__use_weights": True}),
    "scaled losses, elements": ("trimmed_mean", {"combine__use_weights": True}),
    "moving averages of scaled log losses": ("moco", {"combine__use_weights": True, "combine__log_losses": True}),
    "features with state": ("gradnorm", {"gradients": "features"}),
    "fused": ("famo", {"reduction": "fused", "probe_every": 3}),
}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param(*variant, id=key, marks=[] if key in ("smoothed", "fused") else [pytest.mark.ci_only])
        for key, variant in AROUND.items()
    ],
)
def test_what_is_put_around_methods_does_not_depend_on_the_number_of_replicas(name, changes):
    one, three = (problems.run(replicas, 8, combine__name=name, **changes, **MISSING) for replicas in (1, 3))
    problems.assert_same(three, one)


@pytest.mark.parametrize(
    "name",
    problems.methods(name for name, method in METHODS.items() if method.looks_at in ONE_PASS and not method.per_loss),
)
def test_fused_is_the_same(name):
    changes = {"combine__name": name} | MISSING
    fused = problems.run(2, 6, reduction="fused", probe_every=4, **changes)
    problems.assert_same(fused, problems.run(2, 6, **changes), reports=False)


@pytest.mark.parametrize("name", ["modo", pytest.param("moco", marks=pytest.mark.ci_only)])
def test_micro_batches_of_odd_size(name):
    """The halves are those of the whole batch: its even and its odd positions."""
    whole, parts = (problems.run(2, 5, combine__name=name, batch_size=12, micro_batches=m, **MISSING) for m in (1, 4))
    problems.assert_same(parts, whole)


def test_lasting_weights_are_those_of_the_last_full_step():
    """`random` draws none in between, so with plain SGD the steps between are sums with the first step's weights."""
    built = _build(1, "random", combine__update_every=3, **PLAIN)
    train, iterator, state = built.step.build(), iter(built.batches(0)), built.step.initial_state()
    weights = []
    for step in range(6):
        state, _ = _step(built, train, iterator, step, state)
        weights.append(state.weights.numpy())
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
            "dataset": {"name": "tests.trainer.test_methods:opposed"},
            "model": {"name": "tests.problems:linear_rows_model"},
            "losses": {k: {"head": k} | loss for k in ("a", "b")},
            "combine": {"name": name},
        }
    )


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.may_fall_back])
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
        assert values["weight/a"] == pytest.approx(0.5 / 5**0.5)
        assert values["weight/b"] == pytest.approx(0.25 / 5**0.5)
    assert "In 6 steps the gradients left nash_mtl without a solution" in (tmp_path / "run" / "report.md").read_text()


def shifted(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """A squared error that is negative where it is small."""
    return tf.reduce_mean(tf.square(target - prediction), axis=-1) - 100.0


SHIFTED = {"losses__vector__loss": "tests.trainer.test_methods:shifted"}


@pytest.mark.parametrize(
    "changes",
    [
        {"combine__name": "log_sum"},
        {"combine__name": "geometric", "reduction": "fused"},
        {"combine__name": "mgda", "combine__log_losses": True, "gradients": "features"},
        {"combine__name": "db_mtl"},
        {"combine__name": "famo"},
    ],
    ids=lambda changes: changes["combine__name"],
)
def test_a_loss_without_a_logarithm_ends_the_run(tmp_path, changes):
    config = problems.config(steps=12, **changes, **SHIFTED)
    with pytest.raises(LogarithmError, match=r"^step 1: loss 'vector' is -9\d\.\d+, but combine=.* above 0") as caught:
        train_lib.train(config, str(tmp_path / "run"), problems.strategy(1), Console(file=io.StringIO()))
    assert list(caught.value.losses) == ["vector"]
    assert (tmp_path / "run" / "config.json").exists()


def test_famo_notices_a_loss_that_the_update_takes_below_its_bound():
    bounds = [0.0] * len(problems.LOSSES)
    _, totals = _first_step(_build(2, "famo"))
    bounds[1] = float(totals.losses[1]) * 0.9999
    built = _build(2, "famo", combine__famo={"lower_bounds": bounds}, losses__number__optimizer=SGD)
    _, totals = _first_step(built)
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
        ({"combine__name": "modo", "gradients": "features"}, "gradients='features'.*half of the batch"),
        ({"combine__name": "moco", "reduction": "fused"}, "reduction='fused'.*moving averages"),
        (
            {"combine__name": "log_sum", "reduction": "fused", "micro_batches": 2, "batch_size": 12},
            "reduction='fused'.*losses of the whole batch.*leave micro_batches at 1",
        ),
        ({"combine__name": "log_sum", "reduction": "fused", "jit_compile": True}, "leave jit_compile False"),
    ],
)
def test_what_cannot_hold_is_refused_with_a_reason(changes, words):
    with pytest.raises(ConfigError, match=words):
        experiment.build(loading.resolve(problems.tree(**changes)), problems.strategy(1))
