"""The files that a resumed run reads beside a checkpoint, as they were when that checkpoint was saved."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

NAME = "run.json"  # in the folder of the checkpoint


class Written(NamedTuple):
    """The contents of a file that only grows.

    Attributes:
      size: number of bytes.
      sha256: of these bytes, in hexadecimal digits.
    """

    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A run's files at the moment of a checkpoint.

    Attributes:
      config: the resolved configuration, as nested dictionaries.
      data: SHA-256 of `data.json`.
      reports: `metrics.jsonl`.
      damaged: the step up to which the reports in it are not what the run wrote; None where all are.
      events: event file below `tensorboard` → its size in bytes.
      monitors: the state of `best`, `early_stopping` and `reduce_on_plateau`, where the run has them, and why a hook
        stopped it.
    """

    config: Mapping[str, Any]
    data: str
    reports: Written
    damaged: int | None
    events: Mapping[str, int]
    monitors: Mapping[str, Any]

    def to_json(self) -> str:
        """Returns what `read` reads."""
        return json.dumps(dataclasses.asdict(self) | {"reports": self.reports._asdict()}, indent=1) + "\n"


def read(folder: pathlib.Path) -> Manifest:
    """The manifest in the folder of a checkpoint, whose checksum was found right."""
    values = json.loads((folder / NAME).read_text())
    return Manifest(**values | {"reports": Written(**values["reports"])})
