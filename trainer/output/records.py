"""A run as its directory tells it: configuration and reports, of whoever trained it; nothing of it is carried out."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from trainer.common import durations, schema
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.output import workdir as workdir_lib
from trainer.output.history import Reports
from trainer.output.reports import Report
from trainer.output.workdir import Workdir

_END = re.compile(r"# .* after (\d+) steps")  # the first line of a report.md, which is written at the end of a run


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A run that is there, as it was when it was read.

    Attributes:
      path: its directory.
      config: the resolved configuration, every setting of it, as nested dictionaries.
      reports: all reports, in the order of its `metrics.jsonl`.
      end: the number of steps after which its results were written; None: they were not.
    """

    path: pathlib.Path
    config: Mapping[str, Any]
    reports: tuple[Report, ...]
    end: int | None

    @property
    def method(self) -> str:
        """The name of the combination method."""
        return self.config["combine"]["name"]

    @property
    def seed(self) -> int:
        """The seed."""
        return self.config["seed"]

    @property
    def losses(self) -> tuple[str, ...]:
        """The names of the losses, in the order of the configuration."""
        return tuple(self.config["losses"])

    @property
    def steps(self) -> int | None:
        """The length in steps that the configuration asks for; None where it is in epochs, which the data decide."""
        try:
            return durations.to_steps(
                self.config["steps"], batch_size=self.config["batch_size"], examples=durations.ENDLESS
            )
        except ConfigError:
            return None

    @functools.cached_property
    def last_step(self) -> int:
        """The number of steps that its reports know of; 0 where there is no report."""
        return max((report.step for report in self.reports), default=0)

    @property
    def is_complete(self) -> bool:
        """True where its results were written and nothing was trained since, whether it ended early or not."""
        return self.end is not None and self.end >= self.last_step


def read(path: pathlib.Path) -> RunRecord:
    """Reads a run's directory; raises ConfigError where it holds no run, or one of another version."""
    run = workdir_lib.open_run(str(path))
    return RunRecord(path, schema.as_dict(loading.load_saved(run.config)), tuple(Reports(run.metrics)), _end(run))


def _end(run: Workdir) -> int | None:
    try:
        with run.report.open(encoding="utf-8", errors="replace") as file:
            found = _END.match(file.readline())
    except OSError:
        return None
    return int(found[1]) if found else None
