"""The result does not depend on the number of replicas, in float64 to 1e-9, and all of them hold the same bits."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from tests.properties.side_by_side import Side, SideBySide
from trainer.combine.registry import METHODS, LooksAt
from trainer.config import loading
from trainer.output import checkpoint
from trainer.run import experiment
from trainer.run.experiment import Experiment

STEPS = 20
MISSING = {"dataset__options": {"missing": True}}
VARIANTS = [
    (name, apply, {})
    for name, method in METHODS.items()
    for apply in (("joint", "per_loss") if not method.per_loss else ("per_loss",))
    if apply == "joint" or method.looks_at is not LooksAt.ELEMENTS
]
VARIANTS += [("normalized", apply, {"combine__normalized": {"per_variable": True}}) for apply in ("joint", "per_loss")]
VARIANTS += [("weighted", apply, {"clip_norm": 0.05}) for apply in ("joint", "per_loss")]
VARIANTS += [("pcgrad", "joint", {"combine__use_weights": True})]
# These with four kinds of optimizers and heads of two layers, and evaluated.
WHOLE = ("weighted", "independent")


def _represents(name: str, apply: str, changes: dict) -> bool:
    """One method of each kind."""
    return name in problems.REPRESENTATIVES and not changes and (apply == "joint" or name == "independent")


def _by_hand(name: str, apply: str, changes: dict) -> bool:
    """All of them but the one of two halves, which test_methods_around.py has on two replicas."""
    return _represents(name, apply, changes) and name != "modo"


def _trains(name: str, apply: str, changes: dict) -> bool:
    """These have a training of their own: one method of each kind, and those that look beyond one step's gradients."""
    method = METHODS[name]
    beyond = bool(method.keeps) or method.observe is not None
    return _represents(name, apply, changes) or (name in WHOLE and not changes) or beyond


# The others combine the gradients of one training, side by side.
TRAINED = [variant for variant in VARIANTS if _trains(*variant)]
BESIDE = {
    apply: [variant for variant in VARIANTS if variant[1] == apply and not _trains(*variant)]
    for apply in ("joint", "per_loss")
}
BESIDE = {f"{apply}, {part + 1}": variants[part::2] for apply, variants in BESIDE.items() for part in (0, 1)}


def _changes(name: str, apply: str, changes: dict) -> dict:
    return changes | {"combine__name": name, "combine__apply": apply} | MISSING


@pytest.mark.parametrize(
    ("name", "apply", "changes"),
    [pytest.param(*variant, marks=[] if _by_hand(*variant) else [pytest.mark.ci_only]) for variant in TRAINED],
)
def test_uneven_batches_with_missing_labels(tmp_path, name, apply, changes):
    """11 examples do not divide by 2, 3 or 4; numbers are so rare that some steps have none at all."""
    whole = name in WHOLE and not changes
    changes = _changes(name, apply, changes) | ({} if whole else problems.SIMPLE)
    built = experiment.build(problems.config(**changes), problems.strategy(1))
    loop = built.step.build()
    reference = problems.train(built, STEPS, evaluate=whole, loop=loop)
    missing = np.isnan(reference.losses[:, problems.LOSSES.index("number")])
    assert 0 < missing.sum() < STEPS
    replicas = 4 if whole and apply == "joint" else 3 if whole or apply == "joint" else 2
    other = experiment.build(problems.config(**changes), problems.strategy(replicas))
    problems.assert_same(problems.train(other, STEPS, evaluate=whole), reference)
    _assert_replicas_agree(other)
    if set(built.step.checkpointed(built.step.initial_state(), built.step.initial_totals())) == {"since_report"}:
        _assert_a_checkpoint_holds_everything(tmp_path, built, loop)


@pytest.mark.ci_only
@pytest.mark.parametrize("beside", list(BESIDE))
def test_uneven_batches_with_missing_labels_side_by_side(tmp_path, beside):
    """In every step of one training each method gives the same, on every replica the same bits."""
    apply = beside.partition(",")[0]
    variants = [("weighted", apply, {}), *BESIDE[beside]]
    configs = [problems.config(**_changes(*variant), **problems.SIMPLE) for variant in variants]
    one, several = (SideBySide(configs, replicas) for replicas in (1, 3 if apply == "joint" else 2))
    active = []
    for step, both in enumerate(zip(one.run(0, STEPS), several.run(0, STEPS), strict=True)):
        for variant, expected, found in zip(variants, *both, strict=True):
            _assert_same_side(found, expected, f"{variant}, step {step}")
        active.append(both[0][0].summary.active.numpy()[problems.LOSSES.index("number")])
    assert 0 < sum(active) < STEPS
    # They depend on the variables, the state and the number of the step alone.
    variables = checkpoint.state_of(one.built.model, one.built.optimizer_groups)
    folder = checkpoint.save(tmp_path, STEPS, checkpoint.snapshot(variables))
    first = list(one.run(STEPS, 5))
    checkpoint.restore(folder, variables)
    for again, expected in zip(one.run(STEPS, 5), first, strict=True):
        for value, before in zip(tf.nest.flatten(again), tf.nest.flatten(expected), strict=True):
            np.testing.assert_array_equal(value, before)


def _assert_same_side(found: Side, expected: Side, message: str) -> None:
    """To 1e-9 what was applied, is remembered and reported; bit for bit what the replicas applied."""
    _assert_replicas_apply_the_same(found, message)
    for value, reference in zip(
        tf.nest.flatten(found._replace(gradients=found.gradients[0])),
        tf.nest.flatten(expected._replace(gradients=expected.gradients[0])),
        strict=True,
    ):
        np.testing.assert_allclose(value, reference, rtol=0, atol=1e-9, err_msg=message)


def _assert_replicas_apply_the_same(side: Side, message: str) -> None:
    first, *others = side.gradients
    for other in others:
        for value, expected in zip(other, first, strict=True):
            np.testing.assert_array_equal(value, expected, err_msg=message)


def _assert_a_checkpoint_holds_everything(path: pathlib.Path, built: Experiment, loop: Callable[..., Any]) -> None:
    """Checks that steps without state of the method depend on model, optimizers and the number of the step alone."""
    variables = checkpoint.state_of(built.model, built.optimizer_groups)
    folder = checkpoint.save(path, STEPS, checkpoint.snapshot(variables))
    first = problems.train(built, 5, first_step=STEPS, loop=loop)
    checkpoint.restore(folder, variables)
    again = problems.train(built, 5, first_step=STEPS, loop=loop)
    np.testing.assert_array_equal(again.losses, first.losses)
    for values, expected in ((again.variables, first.variables), (again.optimizers, first.optimizers)):
        for name, value in expected.items():
            np.testing.assert_array_equal(values[name], value, err_msg=name)


def _assert_replicas_agree(built: Experiment) -> None:
    """Bit for bit, though the graph optimizer sees that only the first replica's report is read."""
    for variable in (
        *built.model.trainable_variables,
        *(v for u in built.optimizer_groups for v in u.optimizer.variables),
    ):
        first, *others = (component.numpy() for component in variable.value.values)
        for other in others:
            np.testing.assert_array_equal(first, other, err_msg=variable.path)


@pytest.mark.ci_only
@pytest.mark.parametrize(("apply", "replicas"), [("joint", 4), ("per_loss", 2)])
def test_even_batches(apply, replicas):
    changes = {"combine__name": "pcgrad", "combine__apply": apply, "batch_size": 12, "evaluate": True}
    problems.assert_same(problems.run(replicas, STEPS, **changes), problems.run(1, STEPS, **changes))


def test_steps_per_loop_changes_nothing():
    built = experiment.build(
        problems.config(combine__name="pcgrad", **problems.SIMPLE, **MISSING), problems.strategy(2)
    )
    loop, variables = built.step.build(), checkpoint.state_of(built.model, built.optimizer_groups)
    start = tf.nest.map_structure(lambda variable: variable.numpy(), variables)
    one = problems.train(built, STEPS, loop=loop)
    tf.nest.map_structure(lambda variable, value: variable.assign(value), variables, start)
    many = problems.train(built, STEPS, calls=4, loop=loop)
    for name, value in one.variables.items():
        np.testing.assert_array_equal(many.variables[name], value)


# In float32, where numbers change their type on the way: a method for each way to mix gradients, and ways to compute.
# For CI: above, replicas hold the same in float64 with every representative, and below convolutions do in float32.
FLOAT32 = (*problems.REPRESENTATIVES, "db_mtl")
FLOAT32_BESIDE = [
    {"clip_norm": 0.01},
    {"combine__name": "normalized", "combine__normalized": {"per_variable": True}},
    *({"combine__name": name} for name in ("mean", "mgda", "sdmgrad", "trimmed_mean")),
]
WAYS = [
    {"combine__name": "mean", "reduction": "fused", "probe_every": 4},
    {"combine__name": "pcgrad", "reduction": "features", "combine__update_every": 3},
]


@pytest.mark.ci_only
@pytest.mark.parametrize("changes", [*({"combine__name": name} for name in FLOAT32), *WAYS])
def test_replicas_hold_the_same_variables(changes):
    """`pcgrad` with every kind of optimizer, the others with plain ones."""
    simple = {} if changes.get("combine__name") == "pcgrad" else problems.SIMPLE
    changes = simple | changes | {"precision": "float32"} | MISSING
    built = experiment.build(problems.config(**changes), problems.strategy(3))
    problems.train(built, 10)
    _assert_replicas_agree(built)


@pytest.mark.ci_only
def test_replicas_apply_the_same_side_by_side():
    """So do more methods, in every step of one training."""
    configs = [problems.config(**changes, precision="float32", **MISSING) for changes in FLOAT32_BESIDE]
    several = SideBySide(configs, 3)
    for sides in several.run(0, 10):
        for changes, side in zip(FLOAT32_BESIDE, sides, strict=True):
            _assert_replicas_apply_the_same(side, str(changes))
    _assert_replicas_agree(several.built)


def test_replicas_hold_the_same_variables_of_convolutions(root):
    """Gradients large enough that timing could change the order in which they are added."""
    built = experiment.build(loading.load(str(root / "configs/digits.py")), problems.strategy(2))
    problems.train(built, 20)
    _assert_replicas_agree(built)
