"""The result does not depend on the number of replicas, in float64 to 1e-9."""

import numpy as np
import pytest

from tests import problems
from trainer.combine.registry import METHODS, LooksAt
from trainer.config import loading, settings
from trainer.run import experiment

STEPS = 20
VARIANTS = [
    (name, apply, {})
    for name, method in METHODS.items()
    for apply in (("joint", "per_loss") if not method.per_loss else ("per_loss",))
    if apply == "joint" or method.looks_at is not LooksAt.ELEMENTS
]
VARIANTS += [("normalized", apply, {"combine__normalized": {"per_variable": True}}) for apply in ("joint", "per_loss")]
VARIANTS += [("weighted", apply, {"clip_norm": 0.05}) for apply in ("joint", "per_loss")]
VARIANTS += [("pcgrad", "joint", {"combine__use_weights": True})]


def _marks(name: str, apply: str, changes: dict) -> list:
    """CI runs all of them; by hand one method of each kind."""
    by_hand = (
        name in problems.REPRESENTATIVES and not changes and (apply == "joint" or name in ("independent", "pcgrad"))
    )
    return [] if by_hand else [pytest.mark.ci_only]


@pytest.mark.parametrize(
    ("name", "apply", "changes"), [pytest.param(*variant, marks=_marks(*variant)) for variant in VARIANTS]
)
def test_uneven_batches_with_missing_labels(name, apply, changes):
    """11 examples do not divide by 3 or 4; numbers are so rare that some steps have none at all."""
    changes = changes | {"combine__name": name, "combine__apply": apply, "dataset__options": {"missing": True}}
    # The evaluation is the same for equal variables; two variants show that, the others save the time.
    changes["evaluate"] = name in ("weighted", "independent")
    reference = problems.run(1, STEPS, **changes)
    missing = np.isnan(reference.losses[:, problems.LOSSES.index("number")])
    assert 0 < missing.sum() < STEPS
    for replicas in (3, 4) if name == "weighted" else (3,):
        problems.assert_same(problems.run(replicas, STEPS, **changes), reference)


@pytest.mark.ci_only
@pytest.mark.parametrize("apply", ["joint", "per_loss"])
def test_even_batches(apply):
    changes = {"combine__name": "pcgrad", "combine__apply": apply, "batch_size": 12, "evaluate": True}
    reference = problems.run(1, STEPS, **changes)
    for replicas in (2, 4):
        problems.assert_same(problems.run(replicas, STEPS, **changes), reference)


def test_steps_per_loop_changes_nothing():
    changes = {"combine__name": "pcgrad", "dataset__options": {"missing": True}}
    one, many = problems.run(2, STEPS, **changes), problems.run(2, STEPS, calls=4, **changes)
    for name, value in one.variables.items():
        np.testing.assert_array_equal(many.variables[name], value)


def _assert_replicas_agree(config: settings.Config, replicas: int, steps: int) -> None:
    built = experiment.build(config, problems.strategy(replicas))
    problems.train(built, steps)
    for variable in (*built.model.trainable_variables, *(v for u in built.step.updates for v in u.optimizer.variables)):
        first, *others = (component.numpy() for component in variable.value.values)
        for other in others:
            np.testing.assert_array_equal(first, other)


WAYS = [
    {"clip_norm": 0.01},
    {"combine__name": "mean", "reduction": "fused", "probe_every": 4},
    {"combine__name": "pcgrad", "gradients": "features", "combine__update_every": 3},
]


@pytest.mark.parametrize(
    "changes",
    [pytest.param({"combine__name": each.values[0]}, marks=each.marks) for each in problems.methods()]
    + [pytest.param(way, marks=pytest.mark.ci_only) for way in WAYS],
)
def test_replicas_hold_the_same_variables(changes):
    """Bit for bit, though the graph optimizer sees that only the first replica's report is read."""
    changes = changes | {"precision": "float32", "dataset__options": {"missing": True}}
    _assert_replicas_agree(problems.config(**changes), replicas=3, steps=10)


def test_replicas_hold_the_same_variables_of_convolutions(root):
    """Gradients large enough that timing could change the order in which they are added."""
    _assert_replicas_agree(loading.load(str(root / "configs/digits.py")), replicas=2, steps=20)
