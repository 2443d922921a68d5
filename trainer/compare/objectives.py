"""The objective by which tuning chooses: a number that each validation report of a trial gives. No TensorFlow."""

import dataclasses
import importlib.util
import math
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.common import expressions, schema
from trainer.common.errors import ConfigError, first_line, unknown
from trainer.common.expressions import Expression
from trainer.config import directions, monitors
from trainer.config.monitors import TOTAL_LOSS, MonitorConfig
from trainer.config.settings import Config
from trainer.output.reports import VALIDATION, Report

FIELD = "--objective"
MIN, MAX = "min", "max"
_MEAN_LOGARITHM = "the mean logarithm of the losses"
_BEST = "best.metric"


@dataclasses.dataclass(frozen=True)
class Objective:
    """A number that tells which of several runs of a configuration is the best.

    Attributes:
      text: what it is, for tables.
      mode: "min" or "max", whether less or more is better.
      expression: what it is of a report's values; None: the mean of the logarithms of `loss_weights`' losses.
      loss_weights: loss → its weight in `total_loss`: the configuration's, whatever the trials' own weights are.
      of_best: whether a run counts by its best validation report, as where its best checkpoint is kept; else by its
        last one.
    """

    text: str
    mode: str
    expression: Expression | None
    loss_weights: Mapping[str, float]
    of_best: bool

    def value(self, report: Report) -> float | None:
        """The value of a validation report; None where it has none that is finite."""
        if self.expression is None:
            losses = [report.values.get(f"loss/{name}") for name in self.loss_weights]
            if any(loss is None or not 0 < loss < math.inf for loss in losses):
                return None
            return math.fsum(map(math.log, losses)) / len(losses)
        values = dict(report.values)
        losses = {name: values.get(f"loss/{name}") for name, weight in self.loss_weights.items() if weight}
        if losses and None not in losses.values():
            values[TOTAL_LOSS] = math.fsum(self.loss_weights[name] * loss for name, loss in losses.items())
        try:
            return monitors.value(self.expression, values)
        except ZeroDivisionError:
            return None

    def of_run(self, reports: Iterable[Report]) -> float | None:
        """The value of a run by all its reports; None where it has none."""
        found = [self.value(report) for report in reports if report.split == VALIDATION]
        if not self.of_best:
            return found[-1] if found else None
        return (min if self.mode == MIN else max)((value for value in found if value is not None), default=None)


def of(config: Config, given: str | None = None) -> Objective:
    """The objective of a configuration.

    Args:
      config: the configuration before anything is tuned.
      given: an expression that is minimized, or the name of a loss or metric, whose direction is Keras'. None: what
        `best` watches; without it the mean of the losses' logarithms, in which a change by a percent counts the same
        whatever the loss and its scale.

    Raises:
      ConfigError: it cannot be read, reads what no validation report has, or does not say which way is better.
    """
    weights = {name: loss.weight for name, loss in config.losses.items()}
    if given is None and config.best is None:
        return Objective(_MEAN_LOGARITHM, MIN, None, dict.fromkeys(weights, 1.0), of_best=False)
    field, monitor = (_BEST, config.best) if given is None else (FIELD, MonitorConfig(given, "auto"))
    text = " ".join(monitor.metric.split())
    is_expression = monitors.is_expression(text)
    try:
        expression = expressions.parse(text if is_expression else f"{{{text}}}")
    except ValueError as error:
        raise ConfigError(field, monitor.metric, f"cannot be read as an expression: {first_line(error)}") from error
    known = {TOTAL_LOSS: directions.DOWN, **directions.of(schema.as_dict(config))}
    for name in expression.names:
        _check_name(name, known, config, field, text)
    if TOTAL_LOSS in expression.names:
        _check_weights(weights, field, text)
    mode = monitor.mode
    if mode == "auto":
        mode = MIN if is_expression else _mode(text, known, field)
    constant = {name: weight for name, weight in weights.items() if isinstance(weight, float)}
    return Objective(text, mode, expression, constant, of_best=config.best is not None)


def check_installed(value: Any, field: str = "--tuned") -> None:
    """Raises ConfigError where Optuna, which suggests what is tried, is not installed; does not import it."""
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(field, value, "needs the package of the extra 'tune', pip install 'optuna>=4'")


def _check_name(name: str, known: Mapping[str, str | None], config: Config, field: str, text: str) -> None:
    first = name.partition("/")[0]
    if first in config.evaluate:
        reason = f"reads {name!r}: what is tuned is chosen on the validation split, and reported on the others"
        raise ConfigError(field, text, reason)
    is_of_segments = config.segments is not None and first in ("segment", *config.losses, *config.metrics)
    if name not in known and not is_of_segments:
        raise unknown(field, text, "validation value", known, name=name)


def _check_weights(weights: Mapping[str, Any], field: str, text: str) -> None:
    for name, weight in weights.items():
        if not isinstance(weight, float):
            reason = f"cannot read {TOTAL_LOSS} where losses.{name}.weight is a schedule; name the losses instead"
            raise ConfigError(field, text, reason)


def _mode(name: str, known: Mapping[str, str | None], field: str) -> str:
    direction = directions.of_value(name, known)
    if direction is None:
        reason = f"does not say which way is better; write {{{name}}} or -{{{name}}}, of which the least is chosen"
        raise ConfigError(field, name, reason)
    return MAX if direction == directions.UP else MIN
