"""The plan by which a configuration's steps are computed: the one place that knows which setting needs what.

Rules, the step and the prediction of its cost ask the plan. Only here are `reduction` and what a method looks at
compared. Needs no TensorFlow.
"""

import dataclasses
from typing import Any

from trainer.combine.registry import METHODS, ONE_PASS, LooksAt
from trainer.common.errors import ConfigError
from trainer.config import step_settings
from trainer.config.loss_settings import GLOBAL_BATCH
from trainer.config.settings import LOOP, PASSES, Config
from trainer.config.step_plan import PROBE_EVERY, UPDATE_EVERY, StepPlan, View, Way
from trainer.config.step_settings import StepSettings

_NOT_PASSES = "leave compile 'off'"


def of(config: Config, *, labels_can_be_missing: bool = False) -> StepPlan:
    """The plan of a configuration that says how its combination is applied; arguments and errors as of `make`."""
    return make(step_settings.of(config), labels_can_be_missing=labels_can_be_missing)


def make(settings: StepSettings, *, labels_can_be_missing: bool = False) -> StepPlan:
    """The plan of these settings.

    Args:
      settings: on which it depends.
      labels_can_be_missing: whether labels of a loss have weights, their own or of classes, or can be masked, which
        "auto" depends on; known once the data are.

    Raises:
      ConfigError: there is none.
    """
    if settings.reduction == "auto":
        reduction, why = _automatic(settings, labels_can_be_missing=labels_can_be_missing)
        return dataclasses.replace(_made(dataclasses.replace(settings, reduction=reduction)), why=why)
    return _made(settings)


def _automatic(settings: StepSettings, *, labels_can_be_missing: bool) -> tuple[str, str]:
    """The reduction that "auto" stands for, fused wherever that can be, and the reason."""
    if settings.update_every > 1:
        return "per_loss", f"{UPDATE_EVERY} is {settings.update_every}"
    if settings.measures and len(settings.losses) == 1:
        return "per_loss", "there is one loss"
    against = _against_one_pass(settings)
    if not against:
        fused = dataclasses.replace(settings, reduction="fused")
        waiting = _against_waiting(fused, _made(fused), labels_can_be_missing=labels_can_be_missing)
        against = waiting and f"a fused step {waiting}"
    return ("per_loss", against) if against else ("fused", f"{settings.name!r} {_looks_at(settings)}")


def _made(settings: StepSettings) -> StepPlan:
    """The plan of settings that say how to reduce; raises ConfigError where there is none."""
    method = settings.method
    _check_method(settings)
    _check_batch(settings)
    _check_compared(settings)
    if settings.reduction == "fused":
        _check_fused(settings)
    if settings.update_every > 1:
        _check_update_every(settings)
    if settings.compile == LOOP:
        _check_loop(settings)
    if settings.reduction == "features":
        _check_features(settings)
    fused, every = settings.reduction == "fused", UPDATE_EVERY if settings.update_every > 1 else None
    if fused and settings.measures:
        every = PROBE_EVERY
    views = {LooksAt.CROSS_GRAMIAN: View.TWO_HALVES, LooksAt.MOVING_GRAMIAN: View.MOVING_AVERAGES}
    ways = {"features": Way.FEATURES, "fused": Way.PER_LOSS if settings.measures else Way.FUSED}
    return StepPlan(
        way=ways.get(settings.reduction, Way.PER_LOSS),
        between=None if every is None else Way.FUSED,
        every=every,
        view=views.get(method.looks_at, View.WHOLE_BATCH),
        applied_per_loss=settings.apply == "per_loss",
        gramian=method.sees_gramian,
        elementwise=method.looks_at is LooksAt.ELEMENTS,
        # Between steps that find coefficients these are known before the losses; what log losses divide by is not.
        losses_first=settings.log_losses or (method.looks_at is LooksAt.LOSSES and every != UPDATE_EVERY),
        observes=method.observe is not None,
    )


def same_but_for_roundings(there: Config, here: Config) -> bool:
    """True if two ways to reduce compute the same updates but for roundings: both or neither from the features."""
    return (there.reduction == "features") == (here.reduction == "features")


def check_labels(settings: StepSettings, *, labels_can_be_missing: bool) -> None:
    """Raises ConfigError where a fused pass cannot wait for the sums that it needs first; arguments as of `make`."""
    plan = make(settings, labels_can_be_missing=labels_can_be_missing)
    if against := _against_waiting(settings, plan, labels_can_be_missing=labels_can_be_missing):
        field, value = (UPDATE_EVERY, settings.update_every) if plan.keeps_coefficients else ("reduction", "fused")
        raise ConfigError(field, value, against)


def _against_waiting(settings: StepSettings, plan: StepPlan, *, labels_can_be_missing: bool) -> str:
    """The reason why a fused pass of this plan cannot wait for the sums that it needs first; empty where it can."""
    if Way.FUSED not in (plan.way, plan.between) or not plan.sums_first(labels_can_be_missing=labels_can_be_missing):
        return ""
    if labels_can_be_missing:
        reason = "counts a batch's labels before its backward pass where labels have weights or can be masked"
    else:
        reason = "needs the losses of the whole batch before its backward pass"
    if settings.micro_batches > 1:
        return f"{reason}; leave micro_batches at 1"
    return f"{reason}, summed across replicas; {_NOT_PASSES}" if settings.compile == PASSES else ""


def _check_method(settings: StepSettings) -> None:
    """Raises ConfigError for a setting around the method that does not suit it, or if no loss has a weight above 0."""
    method, name = settings.method, settings.name
    if settings.log_losses and (method.looks_at in ONE_PASS or method.of_log_losses):
        raise ConfigError(
            "combine.log_losses",
            True,
            f"is for methods that look at gradients, as they are; {name!r} "
            + ("looks at log losses already" if method.of_log_losses else _looks_at(settings)),
        )
    if settings.smoothing and not method.finds_coefficients:
        raise ConfigError(
            "combine.smoothing",
            settings.smoothing,
            f"is for methods that find coefficients in every step; {name!r} has none to smooth",
        )
    if settings.apply == "per_loss" and method.looks_at is LooksAt.ELEMENTS:
        allowed = f"needs a mixed gradient for every loss; {name!r} makes one of all"
        raise ConfigError("combine.apply", "per_loss", allowed)
    if method.looks_at is LooksAt.CROSS_GRAMIAN and settings.batch_size < 2:
        allowed = f"must be at least 2: {name!r} needs two halves of a batch"
        raise ConfigError("batch_size", settings.batch_size, allowed)
    weights = {each: loss.weight for each, loss in settings.losses.items()}
    if not any(weights.values()):
        raise ConfigError("losses.<name>.weight", weights, "at least one loss must have a weight above 0")


def _check_batch(settings: StepSettings) -> None:
    """Raises ConfigError for parts of a batch that the method does not suit, and for probes without a fused run."""
    if settings.probe_every is not None and settings.reduction != "fused":
        allowed = "is for fused steps; the others measure at every report"
        raise ConfigError("probe_every", settings.probe_every, allowed)
    if settings.method.observe is not None and settings.micro_batches > 1:
        allowed = f"must be 1: {settings.name!r} needs the whole batch once more after the update"
        raise ConfigError("micro_batches", settings.micro_batches, allowed)


def _check_compared(settings: StepSettings) -> None:
    """Raises ConfigError for a loss of several examples which the step does not have together, or not apart."""
    for name, loss in settings.losses.items():
        allowed = None
        if loss.over is not None and settings.method.looks_at is LooksAt.CROSS_GRAMIAN:
            allowed = f"compares examples of the two halves of a batch, which {settings.name!r} needs apart"
        elif loss.over == GLOBAL_BATCH and settings.micro_batches > 1:
            allowed = "compares all examples of a batch; leave micro_batches at 1"
        elif loss.over == GLOBAL_BATCH and settings.compile == PASSES:
            allowed = f"gathers the batch from all replicas in the forward pass; {_NOT_PASSES}"
        elif loss.over == GLOBAL_BATCH and loss.layers_read:
            allowed = f"gathers no outputs of layers ({', '.join(loss.layers_read)}); make heads of them"
        if allowed is not None:
            raise ConfigError(f"losses.{name}.over", loss.over, allowed)
        if loss.from_ is not None and settings.method.looks_at is LooksAt.CROSS_GRAMIAN:
            allowed = f"is one number for all examples; {settings.name!r} needs the two halves of a batch apart"
            raise ConfigError(f"losses.{name}.from", loss.from_, allowed)


def _check_fused(settings: StepSettings) -> None:
    if settings.method.looks_at not in ONE_PASS:
        reason = f"has one backward pass for all losses, but {settings.name!r} {_looks_at(settings)}"
        allowed = f"{reason}; use 'per_loss', or for fewer passes 'features'"
        raise ConfigError("reduction", "fused", f"{allowed} or {UPDATE_EVERY}")
    _check_one_sum(settings, "reduction", "fused")


def _check_update_every(settings: StepSettings) -> None:
    allowed = None
    if settings.reduction == "fused":
        allowed = "saves backward passes, of which reduction='fused' has one already; leave it 1"
    elif not settings.method.finds_coefficients or settings.method.keeps is not None:
        allowed = f"keeps the coefficients that a method finds, but {_why_not(settings)}"
    if allowed is not None:
        raise ConfigError(UPDATE_EVERY, settings.update_every, allowed)
    _check_one_sum(settings, UPDATE_EVERY, settings.update_every)


def _check_features(settings: StepSettings) -> None:
    if settings.method.looks_at is not LooksAt.GRAMIAN:
        allowed = f"is for methods that weigh the losses' whole gradients, but {_why_not(settings)}"
    elif settings.micro_batches > 1:
        allowed = "needs the features of the whole batch at once; leave micro_batches at 1"
    elif settings.compile == PASSES:
        allowed = f"sums across replicas within the backward pass; {_NOT_PASSES}"
    else:
        _check_one_sum(settings, "reduction", "features")
        _check_heads_only(settings)
        return
    raise ConfigError("reduction", "features", allowed)


def _check_loop(settings: StepSettings) -> None:
    """Raises ConfigError for what would compute something else than without XLA, or cannot be in its one program."""
    against = None
    if settings.micro_batches > 1:
        against = "needs the whole batch at once; leave micro_batches at 1"
    elif settings.method.draws:
        against = f"has other random numbers, which {settings.name!r} may draw from its `seed`; use 'passes' or 'off'"
    elif settings.method.eigen:
        against = f"has eigenvectors to 1e-8 only, on which {settings.name!r} relies; use 'passes' or 'off'"
    if against is not None:
        raise ConfigError("compile", LOOP, against)


def _check_heads_only(settings: StepSettings) -> None:
    """Raises ConfigError for a loss that looks at the model elsewhere than at its heads, which are all it has there."""
    for name, loss in settings.losses.items():
        if found := loss.from_ or ", ".join(loss.layers_read):
            reason = f"sees the model's heads only, but losses.{name} is of {found}; use 'per_loss'"
            raise ConfigError("reduction", "features", reason)


def _check_one_sum(settings: StepSettings, field: str, value: Any) -> None:
    """Raises ConfigError unless one sum is applied, of every loss on all it reaches: one backward pass serves all."""
    if against := _against_one_sum(settings):
        raise ConfigError(field, value, f"has one gradient for all losses, but {against}")


def _against_one_pass(settings: StepSettings) -> str:
    """The reason why one backward pass cannot serve all losses; empty where it can."""
    if settings.method.looks_at not in ONE_PASS:
        return f"{settings.name!r} {_looks_at(settings)}"
    return _against_one_sum(settings)


def _against_one_sum(settings: StepSettings) -> str:
    if settings.apply == "per_loss":
        return f"{settings.name!r} applied per loss needs each loss's own"
    apart = (name for name, loss in settings.losses.items() if loss.variables is not None)
    return next((f"losses.{name}.variables keeps one of them apart" for name in apart), "")


def _why_not(settings: StepSettings) -> str:
    name = settings.name
    if settings.per_variable:
        return f"combine.{name}.per_variable has coefficients of its own for every variable"
    hint = "; reduction='fused' makes it one pass" if settings.method.looks_at in ONE_PASS else ""
    return f"{name!r} {_looks_at(settings)}{hint}"


def _looks_at(settings: StepSettings) -> str:
    """Returns what the method looks at, in words, whatever its options."""
    return f"looks at {METHODS.get(settings.name, settings.method).looks_at.value}"
