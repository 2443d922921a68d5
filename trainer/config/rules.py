"""Rules between the settings of a configuration."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from input_pipelines import configuration as data_configuration
from trainer.combine import registry
from trainer.combine.registry import METHODS
from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError, unknown
from trainer.config import monitors, optimizers, paths, plan, reads
from trainer.config.loss_settings import LossConfig, MetricsConfig
from trainer.config.settings import DEFAULT_MODEL, Config, method_options

_RATES = ("learning_rate", "initial_learning_rate", "warmup_target", "end_learning_rate")


def check(config: Config) -> Config:
    """The configuration with its combination's way to apply; raises ConfigError where settings do not go together."""
    _check_optimizers(config)
    _check_losses(config)
    reads.check(config.losses, config.metrics)
    _check_names(config)
    monitors.check(monitors.of(config))
    config = _check_combination(config)
    _check_parts(config)
    if config.combine.name in METHODS:  # code of the user's own is not imported before it is trusted
        plan.of(config)
    return config


def _check_parts(config: Config) -> None:
    """Raises ConfigError for parts that a batch cannot have."""
    if config.batch_size % config.micro_batches:
        raise ConfigError(
            "micro_batches", config.micro_batches, f"must divide batch_size, which is {config.batch_size}"
        )
    part = "batch_size" if config.micro_batches == 1 else "batch_size / micro_batches"
    data_configuration.check_batch_size(config.dataset, config.batch_size // config.micro_batches, part)


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
    check_heads(config.losses, config.metrics, model.heads)


def check_heads(losses: Mapping[str, LossConfig], metrics: Mapping[str, MetricsConfig], heads: Collection[str]) -> None:
    """Raises ConfigError for a loss, or metrics without one, whose head does not exist; a head may be nobody's."""
    for kind, entries in (("losses", losses), ("metrics", metrics)):
        for name, each in entries.items():
            if each.head is not None and each.head not in heads:
                raise unknown(f"{kind}.{name}.head", each.head, "head", heads)
    reads.check_names(losses, paths.HEADS, heads, "head")


def _check_optimizers(config: Config) -> None:
    for field, optimizer in optimizers.by_field(config).items():
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
    method = METHODS.get(combine.name)
    if method is None:
        return dataclasses.replace(config, combine=dataclasses.replace(combine, apply=combine.apply or "joint"))
    if method.per_loss and combine.apply == "joint":
        raise ConfigError(
            "combine.apply", "joint", f"{combine.name!r} is always applied per loss; 'weighted' is its joint form"
        )
    registry.check_count(combine.name, method_options(combine), len(config.losses))
    apply = combine.apply or ("per_loss" if method.per_loss else "joint")
    return dataclasses.replace(config, combine=dataclasses.replace(combine, apply=apply))
