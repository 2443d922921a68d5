"""What a plan says of a configuration, against what the step asks its combination."""

import pytest

from trainer.combine import combination as combination_lib
from trainer.combine.registry import METHODS, LooksAt
from trainer.config import loading, settings
from trainer.cost import plans
from trainer.cost.plans import Plan


def _plan(root, name: str, **overrides: str) -> tuple[Plan, combination_lib.Combination]:
    config = loading.load(f"{root}/configs/digits.py", [("combine.name", name), *overrides.items()])
    combination = combination_lib.build(
        name, settings.method_options(config.combine), len(config.losses), log_losses=config.combine.log_losses
    )
    return plans.of(config, missing=False), combination


@pytest.mark.parametrize("name", METHODS)
def test_every_method(root, name):
    plan, combination = _plan(root, name)
    assert plan.passes == "per_loss"
    assert plan.gramian == combination.needs_gramian
    assert plan.halves == combination.of_two_batches
    assert plan.moving == (combination.keeps is not None)
    assert plan.elementwise == (combination.method.looks_at is LooksAt.ELEMENTS)
    assert plan.observes == combination.observes
    assert plan.heads_apart == (combination.method.yields_weights and not combination.method.weighs_task_specific)
    assert plan.loss_valued == combination.needs_losses
    assert (plan.receivers == "one") != (name == "independent")


def test_a_gramian_for_every_variable(root):
    plan, combination = _plan(root, "normalized", **{"combine.normalized.per_variable": "True"})
    assert plan.gramian
    assert not combination.needs_gramian


@pytest.mark.parametrize(
    ("name", "overrides", "first"),
    [
        ("uncertainty", {}, True),
        ("uncertainty", {"combine.update_every": "10"}, False),  # its last weights are known
        ("pcgrad", {"combine.update_every": "10"}, False),
        ("pcgrad", {"combine.update_every": "10", "combine.log_losses": "True"}, True),
    ],
)
def test_whether_a_fused_pass_needs_the_losses_first(root, name, overrides, first):
    plan, _ = _plan(root, name, **overrides)
    assert plan.between.loss_valued == first
    assert plan.between.passes == "fused"
