"""The result does not depend on the number of replicas, in float64 to 1e-9, and all of them hold the same bits."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
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


def _marks(name: str, apply: str, changes: dict) -> list:
    """CI runs all of them; by hand one method of each kind."""
    by_hand = (
        name in problems.REPRESENTATIVES and not changes and (apply == "joint" or name in ("independent", "pcgrad"))
    )
    return [] if by_hand else [pytest.mark.ci_only]


@pytest.mark.parametrize(
    ("name", "apply", "changes"), [pytest.param(*variant, marks=_marks(*variant)) for variant in VARIANTS]
)
def test_uneven_batches_with_missing_labels(tmp_path, name, apply, changes):
    """11 examples do not divide by 2, 3 or 4; numbers are so rare that some steps have none at all."""
    whole = name in WHOLE and not changes
    changes = changes | {"combine__name": name, "combine__apply": apply} | MISSING | ({} if whole else problems.SIMPLE)
    built = experiment.build(problems.config(**changes), problems.strategy(1))
    loop = built.step.build()
    reference = problems.train(built, STEPS, evaluate=whole, loop=loop)
    missing = np.isnan(reference.losses[:, problems.LOSSES.index("number")])
    assert 0 < missing.sum() < STEPS
    for replicas in (3, 4) if whole and name == "weighted" else (3,) if whole or apply == "joint" else (2,):
        other = experiment.build(problems.config(**changes), problems.strategy(replicas))
        problems.assert_same(problems.train(other, STEPS, evaluate=whole), reference)
        _assert_replicas_agree(other)
    if set(built.step.checkpointed(built.step.initial_state(), built.step.initial_totals())) == {"since_report"}:
        _assert_a_checkpoint_holds_everything(tmp_path, built, loop)


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
    built = experiment.build(problems.config(combine__name="pcgrad", **MISSING), problems.strategy(2))
    loop, variables = built.step.build(), checkpoint.state_of(built.model, built.optimizer_groups)
    start = tf.nest.map_structure(lambda variable: variable.numpy(), variables)
    one = problems.train(built, STEPS, loop=loop)
    tf.nest.map_structure(lambda variable, value: variable.assign(value), variables, start)
    many = problems.train(built, STEPS, calls=4, loop=loop)
    for name, value in one.variables.items():
        np.testing.assert_array_equal(many.variables[name], value)


# In float32, where numbers change their type on the way: a method for each way to mix gradients, and ways to compute.
FLOAT32 = (*problems.REPRESENTATIVES, "mean", "mgda", "sdmgrad", "db_mtl", "trimmed_mean")
WAYS = [
    {"clip_norm": 0.01},
    {"combine__name": "normalized", "combine__normalized": {"per_variable": True}},
    {"combine__name": "mean", "reduction": "fused", "probe_every": 4},
    {"combine__name": "pcgrad", "reduction": "features", "combine__update_every": 3},
]


@pytest.mark.parametrize(
    "changes",
    [pytest.param({"combine__name": each.values[0]}, marks=each.marks) for each in problems.methods(FLOAT32)]
    + [pytest.param(way, marks=pytest.mark.ci_only) for way in WAYS],
)
def test_replicas_hold_the_same_variables(changes):
    built = experiment.build(problems.config(**changes | {"precision": "float32"} | MISSING), problems.strategy(3))
    problems.train(built, 10)
    _assert_replicas_agree(built)


def test_replicas_hold_the_same_variables_of_convolutions(root):
    """Gradients large enough that timing could change the order in which they are added."""
    built = experiment.build(loading.load(str(root / "configs/digits.py")), problems.strategy(2))
    problems.train(built, 20)
    _assert_replicas_agree(built)
