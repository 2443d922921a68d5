"""Values that monitors watch and that no evaluation gives: the total loss, and expressions of several values."""

import contextlib
import dataclasses
import math
from collections.abc import Collection, Mapping

from trainer.common.expressions import Expression
from trainer.components import scalars
from trainer.components.schedules import LearningRateSchedule
from trainer.config import monitors
from trainer.config.monitors import MonitorConfig
from trainer.output.reports import VALIDATION, Report


@dataclasses.dataclass(frozen=True)
class Watched:
    """The values that monitors add to validation reports.

    Attributes:
      expressions: reported name → expression.
      shows_total: whether the total loss is reported.
      loss_weights: loss name → its weight, a number or a schedule over steps.
    """

    expressions: Mapping[str, Expression] = dataclasses.field(default_factory=dict)
    shows_total: bool = False
    loss_weights: Mapping[str, float | LearningRateSchedule] = dataclasses.field(default_factory=dict)

    def added(self, report: Report) -> Report:
        """A validation report with these values, None where one cannot be compared; any other report as it is."""
        if report.split != VALIDATION or not (self.expressions or self.shows_total):
            return report
        known, values = self._known(report), dict(report.values)
        if self.shows_total:
            values[monitors.reported_name(monitors.TOTAL_LOSS)] = known[monitors.TOTAL_LOSS]
        for name, expression in self.expressions.items():
            values[name] = None
            with contextlib.suppress(ZeroDivisionError):
                values[name] = monitors.value(expression, known)
        return dataclasses.replace(report, values=values)

    def dividing_by_zero(self, report: Report) -> dict[str, str]:
        """The expressions that divide by 0 in a validation report, each with a line that says so."""
        known, found = self._known(report), {}
        for name, expression in self.expressions.items():
            try:
                monitors.value(expression, known)
            except ZeroDivisionError:
                what = "it is missing there and compared with nothing, as wherever it does so"
                found[name] = f"{name.removeprefix(monitors.PREFIX)} divides by 0 at step {report.step}: {what}"
        return found

    def _known(self, report: Report) -> dict[str, float | None]:
        """The values that expressions may read."""
        read = {name for expression in self.expressions.values() for name in expression.names}
        if not self.shows_total and monitors.TOTAL_LOSS not in read:
            return dict(report.values)
        return {**report.values, monitors.TOTAL_LOSS: self._total_loss(report)}

    def _total_loss(self, report: Report) -> float | None:
        """Σ weight · loss with the weights at the report's step; None where a loss that has one is missing.

        Where all weights are 0 at that step the sum says nothing, and is None.
        """
        step = scalars.int64(report.step)
        weights = {name: float(each(step) if callable(each) else each) for name, each in self.loss_weights.items()}
        weighed = {name: weight for name, weight in weights.items() if weight != 0}
        losses = [report.values.get(f"loss/{name}") for name in weighed]
        if not weighed or any(loss is None or not math.isfinite(loss) for loss in losses):
            return None
        return math.fsum(weight * loss for weight, loss in zip(weighed.values(), losses, strict=True))


def of(watching: Collection[MonitorConfig | None], loss_weights: Mapping[str, float | LearningRateSchedule]) -> Watched:
    """The values that checked monitors add; None among them watches nothing."""
    found: dict[str, Expression] = {}
    for config in watching:
        expression = config and monitors.expression(config)
        if expression is not None:
            found[monitors.reported_name(config.metric)] = expression
    shows_total = any(config is not None and config.metric == monitors.TOTAL_LOSS for config in watching)
    return Watched(found, shows_total, loss_weights)


NOTHING = Watched()
