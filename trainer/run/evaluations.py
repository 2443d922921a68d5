"""Splits that are evaluated beside `validation`: when each is due, and the evaluation of some at a run's end."""

import dataclasses
from collections.abc import Iterable, Mapping

from input_pipelines.configuration import TRAIN, VALIDATION
from trainer.common.durations import Timeline
from trainer.common.errors import ConfigError, unknown
from trainer.config.evaluations import AT_END, AT_EVERY_EVALUATION


@dataclasses.dataclass(frozen=True)
class Evaluations:
    """The times at which splits other than `validation` are evaluated.

    Attributes:
      at_every: those that are evaluated with `validation`.
      intervals: split → steps from one evaluation of it to the next.
      at_end: those that are evaluated once, at the end of the run.
    """

    at_every: tuple[str, ...] = ()
    intervals: Mapping[str, int] = dataclasses.field(default_factory=dict)
    at_end: tuple[str, ...] = ()

    @property
    def not_with_validation(self) -> tuple[str, ...]:
        """The splits that are evaluated at times of their own."""
        return (*self.intervals, *self.at_end)

    def due(self, step: int, timeline: Timeline, *, with_validation: bool) -> list[str]:
        """The splits to evaluate once `step` steps are taken, where `validation` is evaluated or not."""
        own = [split for split, interval in self.intervals.items() if timeline.is_due(interval, step)]
        return [*(self.at_every if with_validation else ()), *own]


def resolve(
    config: Mapping[str, int | str], splits: Iterable[str], taken: Iterable[str], timeline: Timeline
) -> Evaluations:
    """The times at which all splits but `train` and `validation` are evaluated; at the end where none is configured.

    Args:
      config: the configuration's `evaluate`.
      splits: all splits of the data.
      taken: names beside which a split's would be confused in reports: those of losses and of metrics without one.
      timeline: how the run's steps lie among examples and epochs.

    Raises:
      ConfigError: a split that does not exist, or is evaluated otherwise, or has the name of a loss or of metrics.
    """
    others = [split for split in splits if split not in (TRAIN, VALIDATION)]
    for split, when in config.items():
        if split == VALIDATION:
            raise ConfigError(f"evaluate.{split}", when, "has a key of its own, eval_every")
        if split == TRAIN:
            raise ConfigError(
                f"evaluate.{split}", when, "is what is trained on; train_metrics=True reports its metrics"
            )
        if split not in others:
            raise unknown(f"evaluate.{split}", when, "split beside train and validation", others, name=split)
    for split in others:
        if split in taken:
            reason = "is also the name of a loss or of metrics: reports of one would read as the other's; rename one"
            raise ConfigError(f"evaluate.{split}", ConfigError.ABSENT, reason)
    times = {split: config.get(split, AT_END) for split in others}
    return Evaluations(
        at_every=tuple(split for split, when in times.items() if when == AT_EVERY_EVALUATION),
        intervals={
            split: timeline.to_steps(when, f"evaluate.{split}")
            for split, when in times.items()
            if when not in (AT_END, AT_EVERY_EVALUATION)
        },
        at_end=tuple(split for split, when in times.items() if when == AT_END),
    )
