"""The passes that the prediction takes from a configuration, against what the step asks its combination."""

import pytest

from trainer.combine import combination as combination_lib
from trainer.combine.registry import METHODS, ONE_PASS, LooksAt
from trainer.config import loading, settings
from trainer.config.plan import Way
from trainer.cost import passes as passes_lib
from trainer.cost.passes import Passes


def _passes(root, name: str, **overrides: str) -> tuple[Passes, combination_lib.Combination]:
    config = loading.load(f"{root}/configs/digits.py", [("combine.name", name), *overrides.items()])
    combination = combination_lib.build(
        name, settings.method_options(config.combine), len(config.losses), log_losses=config.combine.log_losses
    )
    return passes_lib.of(config, missing=False), combination


@pytest.mark.parametrize("name", METHODS)
def test_every_method(root, name):
    passes, combination = _passes(root, name)
    one_pass = combination.method.looks_at in ONE_PASS and name != "independent"
    assert passes.way is (Way.FUSED if one_pass else Way.PER_LOSS)
    assert bool(passes.why)
    assert passes.gramian == combination.needs_gramian
    assert passes.halves == combination.of_two_batches
    assert passes.moving == (combination.keeps is not None)
    assert passes.elementwise == (combination.method.looks_at is LooksAt.ELEMENTS)
    assert passes.observes == combination.observes
    assert passes.heads_apart == (
        combination.method.yields_coefficients and not combination.method.weighs_task_specific
    )
    assert passes.loss_valued == combination.needs_losses
    assert (passes.receivers == "one") != (name == "independent")


def test_a_gramian_for_every_variable(root):
    passes, combination = _passes(root, "normalized", **{"combine.normalized.per_variable": "True"})
    assert passes.gramian
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
    passes, _ = _passes(root, name, **overrides)
    assert passes.between.loss_valued == first
    assert passes.between.way is Way.FUSED
