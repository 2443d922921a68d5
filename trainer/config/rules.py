"""What must hold between the settings of a configuration."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from input_pipelines import configuration as data_configuration
from trainer.combine import registry
from trainer.combine.registry import METHODS, ONE_PASS, LooksAt
from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError, unknown
from trainer.config.settings import DEFAULT_MODEL, Config, LossConfig, method_options

_RATES = ("learning_rate", "initial_learning_rate", "warmup_target", "end_learning_rate")


def check(config: Config) -> Config:
    """The configuration with its combination's way to apply; raises ConfigError where settings do not go together."""
    _check_optimizers(config)
    _check_losses(config)
    _check_names(config)
    config = _check_combination(config)
    _check_step(config)
    return config


def _check_names(config: Config) -> None:
    data_configuration.check(config.dataset)
    model = config.model
    if import_paths.is_path(model.name):
        return
    if model.name != DEFAULT_MODEL:
        raise unknown("model.name", model.name, "model", [DEFAULT_MODEL, "package.module:function"])
    if model.heads is None:
        raise ConfigError("model.heads", ConfigError.ABSENT, "is missing and must be given")
    if model.options:
        raise ConfigError(
            "model.options", model.options, "are for a model of your own (model.name='package.module:function')"
        )
    check_heads(config.losses, model.heads)


def check_heads(losses: Mapping[str, LossConfig], heads: Sequence[str] | Mapping[str, Any]) -> None:
    """Every loss's head exists and every head is used by a loss; raises ConfigError."""
    for name, loss in losses.items():
        if loss.head not in heads:
            raise unknown(f"losses.{name}.head", loss.head, "head", heads)
    used = {loss.head for loss in losses.values()}
    for head in heads:
        if head not in used:
            raise ConfigError(
                f"model.heads.{head}", ConfigError.ABSENT, "no loss uses this head; remove it or give it a loss"
            )


def _check_optimizers(config: Config) -> None:
    optimizers = {f"losses.{name}.optimizer": loss.optimizer for name, loss in config.losses.items()}
    for field, optimizer in {**optimizers, "shared_optimizer": config.shared_optimizer}.items():
        rate = optimizer.get("learning_rate")
        if isinstance(rate, dict):
            _check_schedule(rate, f"{field}.learning_rate")
        elif rate is not None:
            optimizer["learning_rate"] = schema.number()(rate, f"{field}.learning_rate")


def _check_losses(config: Config) -> None:
    for name, loss in config.losses.items():
        if loss.offset >= loss.every:
            raise ConfigError(
                f"losses.{name}.offset", loss.offset, f"must be below losses.{name}.every, which is {loss.every}"
            )
        if isinstance(loss.weight, dict):
            _check_schedule(loss.weight, f"losses.{name}.weight")


def _check_schedule(schedule: dict[str, Any], field: str) -> None:
    schema.call("name")(schedule, field)
    for key in _RATES:
        if schedule.get(key) is not None:
            schema.number()(schedule[key], f"{field}.{key}")


def _check_combination(config: Config) -> Config:
    combine = config.combine
    method = METHODS[combine.name]
    if method.per_loss and combine.apply == "joint":
        raise ConfigError(
            "combine.apply", "joint", f"{combine.name!r} is always applied per loss; 'weighted' is its joint form"
        )
    if method.weighted and combine.use_weights:
        raise ConfigError(
            "combine.use_weights", True, f"{combine.name!r} uses the losses' weights already; leave it False"
        )
    registry.check_count(combine.name, method_options(combine), len(config.losses))
    if combine.log_losses and (method.looks_at in ONE_PASS or method.of_log_losses):
        raise ConfigError(
            "combine.log_losses",
            True,
            f"is for methods that look at gradients, as they are; {combine.name!r} "
            + ("looks at log losses already" if method.of_log_losses else f"looks at {method.looks_at.value}"),
        )
    if combine.smoothing and (not method.finds_weights or _per_variable(config)):
        raise ConfigError(
            "combine.smoothing",
            combine.smoothing,
            f"is for methods that find weights in every step; {combine.name!r} has none to smooth",
        )
    if combine.apply == "per_loss" and method.looks_at is LooksAt.ELEMENTS:
        raise ConfigError(
            "combine.apply", "per_loss", f"needs a mixed gradient for every loss; {combine.name!r} makes one of all"
        )
    if method.looks_at is LooksAt.CROSS_GRAMIAN and config.batch_size < 2:
        raise ConfigError(
            "batch_size", config.batch_size, f"must be at least 2: {combine.name!r} needs two halves of a batch"
        )
    weights = {name: loss.weight for name, loss in config.losses.items()}
    if not any(weights.values()):
        raise ConfigError("losses.<name>.weight", weights, "at least one loss must have a weight above 0")
    apply = combine.apply or ("per_loss" if method.per_loss else "joint")
    return dataclasses.replace(config, combine=dataclasses.replace(combine, apply=apply))


def _check_step(config: Config) -> None:
    """What the ways to compute a step can be combined with."""
    if config.batch_size % config.micro_batches:
        raise ConfigError(
            "micro_batches", config.micro_batches, f"must divide batch_size, which is {config.batch_size}"
        )
    part = "batch_size" if config.micro_batches == 1 else "batch_size / micro_batches"
    data_configuration.check_batch_size(config.dataset, config.batch_size // config.micro_batches, part)
    if config.probe_every is not None and config.reduction != "fused":
        raise ConfigError(
            "probe_every", config.probe_every, "is for reduction='fused'; the others measure at every report"
        )
    method, name = METHODS[config.combine.name], config.combine.name
    if method.observe is not None and config.micro_batches > 1:
        raise ConfigError(
            "micro_batches",
            config.micro_batches,
            f"must be 1: {name!r} needs the whole batch once more after the update",
        )
    if config.reduction == "fused":
        if method.looks_at not in ONE_PASS:
            raise ConfigError(
                "reduction",
                "fused",
                f"has one backward pass for all losses, but {name!r} looks at {method.looks_at.value}; use 'per_loss', "
                "or combine.update_every or gradients='features' for fewer passes",
            )
        _check_one_pass(config, "reduction", "fused")
    if config.combine.update_every > 1:
        allowed = None
        if config.reduction == "fused":
            allowed = "saves backward passes, of which reduction='fused' has one already; leave it 1"
        elif not method.finds_weights or method.keeps is not None or _per_variable(config):
            allowed = f"keeps the weights that a method finds, but {_why_not(config)}"
        if allowed is not None:
            raise ConfigError("combine.update_every", config.combine.update_every, allowed)
        _check_one_pass(config, "combine.update_every", config.combine.update_every)
    if config.gradients == "features":
        if method.looks_at is not LooksAt.GRAMIAN or _per_variable(config):
            raise ConfigError(
                "gradients",
                "features",
                f"is for methods that weigh the losses' whole gradients, but {_why_not(config)}",
            )
        if config.micro_batches > 1:
            raise ConfigError(
                "gradients", "features", "needs the features of the whole batch at once; leave micro_batches at 1"
            )
        if config.jit_compile:
            raise ConfigError(
                "gradients", "features", "sums across replicas within the backward pass; leave jit_compile False"
            )
        _check_one_pass(config, "gradients", "features")


def _check_one_pass(config: Config, field: str, value: Any) -> None:
    """One backward pass serves all losses: what is applied must be one sum, of every loss on all it reaches."""
    if config.combine.apply == "per_loss":
        raise ConfigError(
            field,
            value,
            f"has one gradient for all losses; {config.combine.name!r} applied per loss needs each loss's own",
        )
    for name, loss in config.losses.items():
        if loss.variables is not None:
            raise ConfigError(
                field, value, f"has one gradient for all losses, but losses.{name}.variables keeps one of them apart"
            )


def _per_variable(config: Config) -> bool:
    return method_options(config.combine).get("per_variable", False)


def _why_not(config: Config) -> str:
    name = config.combine.name
    if _per_variable(config):
        return f"combine.{name}.per_variable has weights of its own for every variable"
    method = METHODS[name]
    hint = "; reduction='fused' makes it one pass" if method.looks_at in ONE_PASS else ""
    return f"{name!r} looks at {method.looks_at.value}{hint}"
