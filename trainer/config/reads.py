"""Rules for what losses read, and for metrics without a loss."""

from collections.abc import Collection, Mapping
from typing import Any

from trainer.common.errors import ConfigError, unknown
from trainer.config import paths
from trainer.config.loss_settings import LossConfig, MetricsConfig

# Keys that mean something only where a head is compared with a target.
_OF_A_PAIR = ("head", "target", "slice", "class_weights", "metrics", "weighted_metrics")


def check(losses: Mapping[str, LossConfig], metrics: Mapping[str, MetricsConfig]) -> None:
    """Raises ConfigError for keys of a loss, or of metrics without one, that do not go together."""
    origins: dict[str, str] = {}
    for name, loss in losses.items():
        field = f"losses.{name}"
        if loss.from_ is not None:
            reason = f"has no place beside {field}.from, which takes what layers add as it is"
            _refuse(loss, field, (*_OF_A_PAIR, "loss", "reads", "over"), reason)
            if loss.from_ in origins:
                raise ConfigError(f"{field}.from", loss.from_, f"is that of losses.{origins[loss.from_]}, too")
            origins[loss.from_] = name
        elif loss.loss is None:
            raise ConfigError(f"{field}.loss", ConfigError.ABSENT, "is missing and must be given")
        elif loss.reads is not None:
            reason = f"is for a loss of a head and a target, in place of {field}.reads"
            _refuse(loss, field, _OF_A_PAIR, f"{reason}; metrics without a loss are metrics.<name>")
    for name, each in metrics.items():
        if name in losses:
            raise ConfigError(f"metrics.{name}", ConfigError.ABSENT, "is the name of a loss; give these another")
        if not (each.metrics or each.weighted_metrics):
            raise ConfigError(f"metrics.{name}.metrics", each.metrics, "must name at least one metric")


def check_names(losses: Mapping[str, LossConfig], kind: str, names: Collection[str], word: str) -> None:
    """Raises ConfigError for a path of this kind that a loss reads and that names nothing there is.

    Args:
      losses: the losses by name.
      kind: one of `paths.KINDS`.
      names: what there is.
      word: for one of those, in errors.
    """
    for name, loss in losses.items():
        for argument, text in (loss.reads or {}).items():
            path = paths.parse(text)
            if path.kind == kind and path.name not in names:
                there = [str(paths.Path(kind, each)) for each in names]
                raise unknown(f"losses.{name}.reads.{argument}", text, word, there)


def _refuse(loss: LossConfig, field: str, keys: Collection[str], reason: str) -> None:
    for key in keys:
        value: Any = getattr(loss, key)
        if value is not None and value != []:
            raise ConfigError(f"{field}.{key}", value, reason)
