"""The step of every combination method on a model, compared with a step by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from tests.properties.method_steps import MISSING, PLAIN, build, first_step, one_step
from trainer.combine import aggregate
from trainer.combine.registry import METHODS
from trainer.components import losses, predictions
from trainer.run.experiment import Experiment


def _values(built: Experiment) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in built.model.trainable_variables}


def _gradients(built: Experiment, batch, examples=slice(None)) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """Every loss's gradients of all variables over some examples of a batch, from one tape; and the losses."""
    part = tf.nest.map_structure(lambda array: array[examples], batch)
    variables = built.model.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        outputs = built.model(part["inputs"], training=True)
        sums = [losses.sums(loss, predictions.of(outputs), part) for loss in built.losses]
        means = [
            own.loss_sum
            / (own.weight_sum if loss.normalizer == "weights" else own.values_per_example * len(part["inputs"]))
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


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", problems.methods())
def test_a_step_is_what_aggregate_gives(name):
    """Shared variables get the combined gradient; task-specific ones their own, which some methods weigh too."""
    built = build(1, name, **problems.SIMPLE | PLAIN)
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
    state, totals = first_step(built)
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
    joint = totals.measured.coefficients.numpy()
    for k in range(len(built.losses)):
        for v in built.step.reach.task_specific(k):
            path = built.step.reach.variables[v].path
            factor = joint[k] if METHODS[name].weighs_task_specific else 1.0
            np.testing.assert_allclose(
                (before[path] - after[path]) / 0.1, factor * whole[k][path], atol=1e-9, err_msg=path
            )
    assert set(state.combination) == set(built.step.carried.combination.initial_state())


def _has_labels(batch, target: str) -> list[bool]:
    weights = batch["weights"].get(target)
    return [weights is None or bool(np.any(weights[half::2] > 0)) for half in (0, 1)]


def test_two_halves_with_missing_labels():
    """A loss with labels in one half only takes no part; the others' gradients are means over each half's labels."""
    built = build(1, "modo", **PLAIN, **MISSING)
    train, iterator, batches = built.step.build(), iter(built.batches(0)), iter(built.batches(0))
    state, paths, in_one_half, in_both = built.step.initial_state(), _shared(built), 0, 0
    for step in range(8):
        batch, before = next(batches), _values(built)
        present = np.array([_has_labels(batch, loss.target) for loss in built.losses])  # (losses, halves)
        known = present.all(axis=1)
        in_one_half, in_both = in_one_half + np.sum(present.any(axis=1) & ~known), in_both + np.sum(known)
        remembered = state.combination["weights"].numpy()
        state, totals = one_step(built, train, iterator, step, state)
        np.testing.assert_array_equal(totals.counts.numpy() > 0, known)
        weights, after = totals.measured.coefficients.numpy(), _values(built)
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


@pytest.mark.parametrize(("name", "keeps"), [("moco", 0.5), pytest.param("db_mtl", 0.9, marks=pytest.mark.ci_only)])
def test_moving_averages_over_steps(name, keeps):
    """Averages of the rows are mixed: of the losses' own gradients, or of those of their logarithms."""
    built = build(1, name, **PLAIN)
    train, iterator, batches = built.step.build(), iter(built.batches(0)), iter(built.batches(0))
    state, paths, rows = built.step.initial_state(), _shared(built), 0.0
    for step in range(4):
        before = _values(built)
        gradients, values = _gradients(built, next(batches))
        own = _rows(gradients, paths) / (values[:, np.newaxis] if name == "db_mtl" else 1.0)
        rows = keeps * rows + (1 - keeps) * own
        state, totals = one_step(built, train, iterator, step, state)
        expected, after = _in_pieces(totals.measured.coefficients.numpy() @ rows, before, paths), _values(built)
        for path in paths:
            np.testing.assert_allclose((before[path] - after[path]) / 0.1, expected[path], atol=1e-9, err_msg=path)
    if name == "db_mtl":
        norms = np.linalg.norm(rows, axis=1)
        np.testing.assert_allclose(totals.measured.coefficients, norms.max() / norms, rtol=1e-9)
    assert len(built.step.updates.gradient_averages.by_name) == sum(
        len(built.step.reach.losses[v]) for v in built.step.reach.shared
    )


NOISY = [
    {"layer": "Dense", "units": 7},
    {"layer": "BatchNormalization", "momentum": 0.5},
    {"layer": "Dropout", "rate": 0.5},
    {"layer": "Dense", "units": 5, "activation": "tanh"},
]
STILL = {"name": "sgd", "learning_rate": 0.0}


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.ci_only), 2])
def test_famo_looks_again_at_the_same_batch_with_the_same_masks(replicas):
    """The losses after an update that changes nothing are those before, so that FAMO's own weights do not move."""
    frozen = {f"losses__{name}__optimizer": STILL for name in problems.LOSSES} | {"shared_optimizer": STILL}
    built = build(replicas, "famo", **frozen, model__trunk=NOISY)
    state, _ = first_step(built)
    np.testing.assert_allclose(state.combination["logits"], 0.0, atol=1e-12)
    plain = build(replicas, "log_sum", **frozen, model__trunk=NOISY)
    first_step(plain)
    for own, other in zip(built.model.non_trainable_variables, plain.model.non_trainable_variables, strict=True):
        if not own.path.endswith("seed_generator_state"):  # every step sets it
            np.testing.assert_array_equal(own.numpy(), other.numpy(), err_msg=own.path)
    learning = build(replicas, "famo", model__trunk=NOISY)
    state, _ = first_step(learning)
    assert np.all(np.abs(state.combination["logits"].numpy()) > 1e-4)


def test_famo_moves_by_how_much_each_loss_fell():
    built = build(1, "famo", **PLAIN)
    batch = next(iter(built.batches(0)))
    _, before = _gradients(built, batch)
    state, totals = first_step(built)
    _, after = _gradients(built, batch)
    np.testing.assert_allclose(totals.losses, before, rtol=1e-9)
    fell = np.log(before + 1e-8) - np.log(after + 1e-8)
    gradient = (fell - fell.mean()) / len(fell)
    np.testing.assert_allclose(state.combination["adam_mean"], 0.1 * gradient, rtol=1e-7)
    np.testing.assert_allclose(state.combination["logits"], -0.025 * np.sign(gradient), rtol=1e-4)
