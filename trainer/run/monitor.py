"""Decisions by a run's own validation reports: the best checkpoint, stopping early, reducing learning rates.

What was decided is a small state, which every report moves on and every checkpoint holds.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from trainer.common.errors import ConfigError, unknown
from trainer.config import monitors
from trainer.config.monitors import EarlyStoppingConfig, MonitorConfig
from trainer.config.rates import ReduceOnPlateauConfig
from trainer.output.best import Best, evaluations, is_better, watched_value
from trainer.output.reports import VALIDATION, Report
from trainer.run.watched import NOTHING, Watched


@dataclasses.dataclass(frozen=True)
class Patience:
    """The last improvement of more than `min_delta`, and what came after it.

    Attributes:
      config: what is watched; `mode` is "min" or "max".
      value: of the metric at that improvement; None while there is none.
      waited: number of evaluations since.
    """

    config: EarlyStoppingConfig
    value: float | None = None
    waited: int = 0

    def after(self, report: Report) -> "Patience":
        """The state after a further validation report."""
        value = watched_value(report, self.config)
        if value is None or not is_better(value, self.value, self.config.mode, self.config.min_delta):
            return dataclasses.replace(self, waited=self.waited + 1)
        return dataclasses.replace(self, value=value, waited=0)


@dataclasses.dataclass(frozen=True)
class Plateau:
    """The reductions of the learning rates so far, and how long there has been no improvement since.

    Attributes:
      config: what is watched; `mode` is "min" or "max".
      value: of the metric at the last improvement of more than `min_delta`; None while there is none.
      waited: number of evaluations since the last improvement or reduction that count.
      cooling: number of evaluations until they count again, the next of them included.
      reductions: how often the rates have been reduced.
    """

    config: ReduceOnPlateauConfig
    value: float | None = None
    waited: int = 0
    cooling: int = 0
    reductions: int = 0

    def after(self, report: Report) -> "Plateau":
        """The state after a further validation report, as Keras' ReduceLROnPlateau has it."""
        cooling = max(0, self.cooling - 1)
        value = watched_value(report, self.config)
        if value is not None and is_better(value, self.value, self.config.mode, self.config.min_delta):
            return dataclasses.replace(self, value=value, waited=0, cooling=cooling)
        waited = 0 if cooling else self.waited + 1
        if waited < self.config.patience:
            return dataclasses.replace(self, waited=waited, cooling=cooling)
        return dataclasses.replace(self, waited=0, cooling=self.config.cooldown, reductions=self.reductions + 1)


class Monitors(NamedTuple):
    """The states of what decides by validation reports, by keys; None where the run does not have it."""

    best: Best | None
    early_stopping: Patience | None
    reduce_on_plateau: Plateau | None

    def after(self, report: Report, *, is_due: bool = True) -> "Monitors":
        """The state after a further report.

        Args:
          report: the report.
          is_due: whether it is at its interval, not only at the end of the run: learning rates of a run that is
            continued with more steps must not depend on where it had ended.
        """
        if report.split != VALIDATION:
            return self
        after = Monitors(*(own and own.after(report) for own in self))
        return after if is_due else after._replace(reduce_on_plateau=self.reduce_on_plateau)

    @property
    def best_step(self) -> int | None:
        """The step of the best validation report; None while there is none."""
        return self.best and self.best.step

    @property
    def is_exhausted(self) -> bool:
        """True where the last `patience` evaluations brought no improvement."""
        return self.early_stopping is not None and self.early_stopping.waited >= self.early_stopping.config.patience

    @property
    def reductions(self) -> int:
        """The number of times that the learning rates have been reduced."""
        return 0 if self.reduce_on_plateau is None else self.reduce_on_plateau.reductions

    def saved(self) -> dict[str, Any]:
        """Returns the state as nested dictionaries, for a checkpoint."""
        return {field: own and dataclasses.asdict(own) for field, own in zip(self._fields, self, strict=True)}


def build(
    configs: Mapping[str, MonitorConfig | None],
    directions: Mapping[str, str | None],
    other_splits: Iterable[str] = (),
) -> Monitors:
    """The state before the first report of monitors by their keys; the rest as for `resolve`, and raises as that."""
    resolved = {field: resolve(config, field, directions, other_splits) for field, config in configs.items()}
    return start(**resolved)


def start(
    best: MonitorConfig | None = None,
    early_stopping: EarlyStoppingConfig | None = None,
    reduce_on_plateau: ReduceOnPlateauConfig | None = None,
) -> Monitors:
    """The state before the first report."""
    return Monitors(
        best and Best(best),
        early_stopping and Patience(early_stopping),
        reduce_on_plateau and Plateau(reduce_on_plateau),
    )


def resume(
    begun: Monitors, saved: Mapping[str, Any], reports: Iterable[Report] | None, watched: Watched = NOTHING
) -> Monitors:
    """The state at a checkpoint.

    Args:
      begun: the state before the first report.
      saved: what a checkpoint holds of the state, which may be one of other settings.
      reports: those up to the checkpoint, from which a state by other settings is found; None: they are damaged.
      watched: adds to them what only these settings watch.

    Raises:
      ConfigError: the settings have changed and the reports are damaged.
    """
    found = begun
    for field, own in zip(begun._fields, begun, strict=True):
        if own is None:
            continue
        then = saved.get(field)
        if then is not None and _watched(then["config"]) == _watched(dataclasses.asdict(own.config)):
            own = dataclasses.replace(own, **then | {"config": own.config})
        elif reports is None:
            reason = "cannot change when this run resumes: the reports in its metrics.jsonl are damaged"
            raise ConfigError(field, own.config.metric, reason)
        else:
            for report in evaluations(reports):
                own = own.after(watched.added(report))
        found = found._replace(**{field: own})
    return found


def resolve(
    config: MonitorConfig | None, field: str, directions: Mapping[str, str | None], other_splits: Iterable[str] = ()
) -> MonitorConfig | None:
    """`config` with "min" or "max" for "auto"; raises ConfigError where no evaluation gives such a metric.

    Args:
      config: what is watched; None: nothing.
      field: its key in the configuration, for errors.
      directions: what can be watched → "up" or "down", the direction of better values; None: it does not say.
      other_splits: splits that are not evaluated with every validation, so that theirs cannot.
    """
    if config is None:
        return None
    directions = {monitors.TOTAL_LOSS: "down", **directions}
    expression = monitors.expression(config)
    for name in (config.metric,) if expression is None else expression.names:
        split = name.partition("/")[0]
        if name not in directions and split in other_splits:
            reason = f"cannot watch {name!r} of a split that is not evaluated with every validation: set "
            raise ConfigError(f"{field}.metric", config.metric, f"{reason}evaluate.{split}='at_every_evaluation'")
        if name not in directions:
            kind = "validation metric" if expression is None else f"validation metric {name!r}"
            raise unknown(f"{field}.metric", config.metric, kind, directions, name=name)
    if expression is not None or config.mode != "auto":
        return config
    if directions[config.metric] is None:
        raise ConfigError(f"{field}.mode", "auto", f"must be 'min' or 'max': {config.metric!r} does not say")
    return dataclasses.replace(config, mode="max" if directions[config.metric] == "up" else "min")


def _watched(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings on which a state depends; `patience` is only compared with it."""
    return {name: value for name, value in config.items() if name != "patience"}
