"""The needs of each setting: the plan of a configuration, or the line that says why there is none."""

import dataclasses
import pathlib

import pytest

from trainer.combine.registry import METHODS
from trainer.common.errors import ConfigError
from trainer.config import loading, plan, step_settings
from trainer.config.plan import StepPlan, View, Way
from trainer.config.settings import Config

DIGITS = str(pathlib.Path(__file__).parents[3] / "configs" / "digits.py")  # three losses, a batch of 64
SETTINGS = {
    "fused": "reduction=fused",
    "update_every": "combine.update_every=10",
    "features": "reduction=features",
    "per_loss": "combine.apply=per_loss",
    "log_losses": "combine.log_losses=true",
    "smoothing": "combine.smoothing=0.5",
    "micro_batches": "micro_batches=2",
}
WAYS = ("fused", "per_loss", "auto")
# Which of these settings, each on its own, go with which methods.
ACCEPTED = {
    "sum weighted mean": "fused per_loss micro_batches",
    "independent": "per_loss micro_batches",
    "random uncertainty dwa geometric log_sum smooth_tchebycheff": (
        "fused update_every per_loss smoothing micro_batches"
    ),
    "famo": "fused update_every per_loss smoothing",
    "gradnorm normalized pcgrad gradvac mgda cagrad imtl_g config nash_mtl fair_grad aligned_mtl dual_proj upgrad": (
        "update_every features per_loss log_losses smoothing micro_batches"
    ),
    "normalized/per_variable": "per_loss log_losses micro_batches",
    "sdmgrad modo": "update_every per_loss log_losses smoothing micro_batches",
    "moco": "per_loss log_losses smoothing micro_batches",
    "db_mtl": "per_loss smoothing micro_batches",
    "graddrop trimmed_mean": "log_losses micro_batches",
}
BY_METHOD = {method: accepted.split() for methods, accepted in ACCEPTED.items() for method in methods.split()}


def _config(method: str, *overrides: str) -> Config:
    name, _, per_variable = method.partition("/")
    options = [f"combine.{name}.{per_variable}=true"] if per_variable else []
    return loading.load(DIGITS, [tuple(each.split("=", 1)) for each in (*options, *overrides)], combine=name)


@pytest.mark.parametrize(
    ("method", "settings", "passes"),
    [
        ("weighted", [], "1 pass"),
        ("weighted", ["reduction=per_loss"], "3 passes"),
        ("pcgrad", [], "3 passes"),
        ("modo", [], "6 passes"),
        ("pcgrad", ["reduction=features"], "3 passes through the heads, 1 through the trunk"),
        ("pcgrad", ["combine.update_every=10"], "3 passes, in 9 of 10 steps 1"),
    ],
)
def test_the_backward_passes_of_a_step_in_words(method, settings, passes):
    config = _config(method, *settings)
    assert plan.of(config).passes(len(config.losses), config.combine.update_every) == passes


@pytest.mark.parametrize("method", BY_METHOD)
def test_which_settings_go_with_a_method(method):
    for setting, override in SETTINGS.items():
        if setting in BY_METHOD[method]:
            _config(method, override)
            continue
        with pytest.raises(ConfigError) as caught:
            _config(method, override)
        assert caught.value.field == override.partition("=")[0]


def test_every_method_has_its_settings():
    assert {method.partition("/")[0] for method in BY_METHOD} == set(METHODS)


@pytest.mark.parametrize(
    ("method", "overrides", "way", "between", "every"),
    [
        ("weighted", ["reduction=per_loss"], Way.PER_LOSS, None, None),
        ("weighted", [], Way.PER_LOSS, Way.FUSED, "probe_every"),
        ("weighted", ["reduction=fused"], Way.PER_LOSS, Way.FUSED, "probe_every"),
        ("mgda", [], Way.PER_LOSS, None, None),
        ("mgda", ["combine.update_every=10"], Way.PER_LOSS, Way.FUSED, "combine.update_every"),
        ("mgda", ["reduction=features"], Way.FEATURES, None, None),
        ("mgda", ["reduction=features", "combine.update_every=2"], Way.FEATURES, Way.FUSED, "combine.update_every"),
    ],
)
def test_ways(method, overrides, way, between, every):
    found = plan.of(_config(method, *overrides))
    assert (found.way, found.between, found.every) == (way, between, every)
    assert found.probes == (every == "probe_every")


@pytest.mark.parametrize("method", BY_METHOD)
def test_auto_is_fused_where_fused_is_accepted_and_per_loss_elsewhere(method):
    around = [[], ["micro_batches=2"], ["compile=passes"], ["combine.apply=per_loss"], ["combine.update_every=2"]]
    around += [["losses.ink.variables=['a*']"], ["combine.log_losses=true"], ["combine.smoothing=0.5"]]
    for overrides in around:
        for missing in (False, True):
            found = {way: _plan_or_refusal(method, [f"reduction={way}", *overrides], missing) for way in WAYS}
            expected = found["fused"] if isinstance(found["fused"], StepPlan) else found["per_loss"]
            if isinstance(expected, StepPlan):
                assert found["auto"].why
                found["auto"] = dataclasses.replace(found["auto"], why="")
            assert found["auto"] == expected, overrides


def _plan_or_refusal(method: str, overrides: list[str], missing: bool) -> StepPlan | str:
    try:
        settings = step_settings.of(_config(method, *overrides))
        plan.check_labels(settings, labels_can_be_missing=missing)
        return plan.make(settings, labels_can_be_missing=missing)
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize(
    ("method", "overrides", "why"),
    [
        ("weighted", [], "'weighted' looks at nothing but its own constants"),
        ("dwa", [], "'dwa' looks at the values of the losses"),
        ("mgda", [], "'mgda' looks at inner products of the losses' gradients over all shared variables"),
        ("weighted", ["combine.apply=per_loss"], "'weighted' applied per loss needs each loss's own"),
        ("sum", ["losses.ink.variables=['a*']"], "losses.ink.variables keeps one of them apart"),
        ("dwa", ["combine.update_every=2"], "combine.update_every is 2"),
        ("dwa", ["micro_batches=2"], "a fused step needs the losses of the whole batch before its backward pass; "),
        ("mgda", ["reduction=per_loss"], ""),
    ],
)
def test_why_auto_takes_a_way(method, overrides, why):
    found = plan.of(_config(method, *overrides)).why
    assert found.startswith(why)
    assert bool(found) == bool(why)


def test_one_loss_has_its_norm_in_every_step_and_is_not_probed():
    settings = step_settings.of(_config("weighted"))
    one = dataclasses.replace(settings, losses={"digit": settings.losses["digit"]})
    found = plan.make(one)
    assert (found.way, found.between, found.why) == (Way.PER_LOSS, None, "there is one loss")


@pytest.mark.parametrize("method", BY_METHOD)
def test_what_a_method_looks_at(method):
    found = plan.of(_config(method))
    views = {View.TWO_HALVES: ("sdmgrad", "modo"), View.MOVING_AVERAGES: ("moco", "db_mtl")}
    for view, own in views.items():
        assert (found.view is view) == (method in own)
    assert found.elementwise == (method in ("graddrop", "trimmed_mean"))
    assert found.gramian == ("log_losses" in BY_METHOD[method] and not found.elementwise or method == "db_mtl")
    assert found.observes == (method == "famo")
    assert found.applied_per_loss == (method == "independent")


@pytest.mark.parametrize(
    ("method", "overrides", "field", "words"),
    [
        ("weighted", ["combine.log_losses=true"], "combine.log_losses", "'weighted' looks at nothing but its own"),
        ("db_mtl", ["combine.log_losses=true"], "combine.log_losses", "'db_mtl' looks at log losses already"),
        ("mean", ["combine.smoothing=0.5"], "combine.smoothing", "'mean' has none to smooth"),
        ("graddrop", ["combine.apply=per_loss"], "combine.apply", "'graddrop' makes one of all"),
        ("modo", ["batch_size=1"], "batch_size", "'modo' needs two halves of a batch"),
        ("mgda", ["micro_batches=3"], "micro_batches", "must divide batch_size, which is 64"),
        ("mgda", ["probe_every=10"], "probe_every", "is for fused steps"),
        ("famo", ["micro_batches=2"], "micro_batches", "'famo' needs the whole batch once more after the update"),
        ("mgda", ["reduction=fused"], "reduction", "or for fewer passes 'features' or combine.update_every"),
        ("weighted", ["reduction=fused", "combine.apply=per_loss"], "reduction", "applied per loss needs each loss's"),
        ("sum", ["reduction=fused", "losses.ink.variables=['a*']"], "reduction", "losses.ink.variables keeps one"),
        ("random", ["reduction=fused", "combine.update_every=2"], "combine.update_every", "has one already"),
        ("sum", ["combine.update_every=2"], "combine.update_every", "constants; reduction='fused' makes it one pass"),
        ("moco", ["combine.update_every=2"], "combine.update_every", "'moco' looks at inner products of moving"),
        ("mgda", ["combine.update_every=2", "combine.apply=per_loss"], "combine.update_every", "each loss's own"),
        ("normalized/per_variable", ["reduction=features"], "reduction", "has coefficients of its own for every"),
        ("modo", ["reduction=features"], "reduction", "is for methods that weigh the losses' whole gradients"),
        ("mgda", ["reduction=features", "micro_batches=2"], "reduction", "leave micro_batches at 1"),
        ("mgda", ["reduction=features", "compile=passes"], "reduction", "leave compile 'off'"),
        ("mgda", ["reduction=features", "combine.apply=per_loss"], "reduction", "has one gradient for all losses"),
        # Of several mistakes the one that stands first in the order of the checks.
        ("mgda", ["reduction=features", "micro_batches=3"], "micro_batches", "must divide"),
        ("moco", ["combine.update_every=2", "reduction=features"], "combine.update_every", "moving averages"),
    ],
)
def test_what_does_not_go_together(method, overrides, field, words):
    with pytest.raises(ConfigError) as caught:
        _config(method, *overrides)
    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("method", "overrides", "missing", "needed"),
    [
        ("weighted", ["reduction=fused"], False, None),
        ("weighted", ["reduction=fused"], True, "reduction='fused': counts a batch's labels"),
        ("geometric", ["reduction=fused"], False, "reduction='fused': needs the losses of the whole batch"),
        ("geometric", ["combine.update_every=2"], False, None),  # its last weights are known
        ("mgda", ["combine.update_every=2"], True, "combine.update_every=2: counts a batch's labels"),
        ("mgda", ["combine.update_every=2", "combine.log_losses=true"], False, "combine.update_every=2: needs the"),
        ("mgda", [], True, None),
    ],
)
def test_what_a_fused_pass_waits_for(method, overrides, missing, needed):
    """Sums over a whole batch and all replicas are known neither between its parts nor within what XLA compiles."""
    plain = _config(method, *overrides)
    plan.check_labels(step_settings.of(plain), labels_can_be_missing=missing)
    if plan.of(plain).between is not None:
        assert plan.of(plain).sums_first(labels_can_be_missing=missing) == (needed is not None)
    for override in ("micro_batches=2", "compile=passes"):
        config = _config(method, *overrides, override)
        if needed is None:
            plan.check_labels(step_settings.of(config), labels_can_be_missing=missing)
            continue
        with pytest.raises(ConfigError) as caught:
            plan.check_labels(step_settings.of(config), labels_can_be_missing=missing)
        assert str(caught.value).startswith(needed)
        instead = "micro_batches at 1" if "2" in override else "compile 'off'"
        assert str(caught.value).endswith(f"leave {instead}")
