"""Settings of what watches a reported value, the total loss, or an expression: `best`, `early_stopping`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from trainer.common import expressions, schema
from trainer.common.errors import ConfigError
from trainer.common.expressions import Expression
from trainer.common.schema import setting

TOTAL_LOSS = "total_loss"
PREFIX = "monitor/"  # of reported names
_FIELDS = ("best", "early_stopping", "reduce_on_plateau")
_SIGNS = frozenset("{}()+* ")  # none of them is in the name of a loss or a metric


@dataclasses.dataclass(frozen=True)
class MonitorConfig:
    """A validation metric to watch, and whether less or more of it is better."""

    metric: str = setting(
        schema.string,
        meaning="What is watched: `loss/<loss>`, `<loss>/<metric>`, `total_loss` (the sum of the losses with their "
        "`weight` at that step), or an expression of these names in braces, `{digit/accuracy} - 2 * {ink/mae}`, with "
        "numbers, `+ - * /` and parentheses.",
    )
    mode: str = setting(
        schema.choice("mode", ("auto", "min", "max")),
        "auto",
        "Whether less (`min`) or more (`max`) of it is better; `auto` takes less of a loss, and of a metric what Keras "
        "takes. Of an expression it must be given.",
    )


@dataclasses.dataclass(frozen=True)
class EarlyStoppingConfig(MonitorConfig):
    """A validation metric whose lack of improvement ends the run."""

    patience: int = setting(
        schema.integer(1), meaning="How many evaluations in a row without an improvement end the run."
    )
    min_delta: float = setting(schema.number(), 0.0, "By how much a value must be better to be an improvement.")


def of(config: Any) -> dict[str, MonitorConfig | None]:
    """The monitors of a whole configuration by their keys; None for one that it does not have."""
    return {field: getattr(config, field) for field in _FIELDS}


def check(by_field: Mapping[str, MonitorConfig | None]) -> None:
    """Raises ConfigError for what is no expression, and for one without `mode`."""
    for field, monitor in by_field.items():
        if monitor is None or not is_expression(monitor.metric):
            continue
        try:
            expressions.parse(monitor.metric)
        except ValueError as error:
            raise ConfigError(f"{field}.metric", monitor.metric, f"cannot be read as an expression: {error}") from error
        if monitor.mode == "auto":
            reason = f"must be 'min' or 'max' where {field}.metric is an expression"
            raise ConfigError(f"{field}.mode", monitor.mode, reason)


def expression(monitor: MonitorConfig) -> Expression | None:
    """The expression that a checked monitor watches; None where it watches a value by its name."""
    return expressions.parse(monitor.metric) if is_expression(monitor.metric) else None


def reported_name(metric: str) -> str:
    """The name under which reports have what is watched."""
    derived = metric == TOTAL_LOSS or is_expression(metric)
    return PREFIX + " ".join(metric.split()) if derived else metric


def value(found: Expression, values: Mapping[str, float | None]) -> float | None:
    """The value of an expression; None where one that it reads is missing or not finite, or where it is not itself.

    Raises:
      ZeroDivisionError: it divides by 0.
    """
    read = {name: values.get(name) for name in found.names}
    if any(each is None or not math.isfinite(each) for each in read.values()):
        return None
    result = found.evaluate(read)
    return result if math.isfinite(result) else None


def is_expression(metric: str) -> bool:
    """True where what is watched is an expression, not a value by its name."""
    return not _SIGNS.isdisjoint(metric)
