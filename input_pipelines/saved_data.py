"""The part of its data that a run keeps in its workdir, as JSON."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from input_pipelines import saved_form
from input_pipelines.preparation.fitting import Statistics
from trainer.common import atomic_files, json_text
from trainer.common.errors import ConfigError, first_line


@dataclasses.dataclass(frozen=True)
class SavedData:
    """The part of its data that a run keeps in its workdir.

    Attributes:
      fingerprints: the configuration's key of a source → split → a fingerprint.
      statistics: the configuration's key of a source → what its preparation learned.
      feeds: the configuration's key of a source → "memory", "streaming" or "in_order".
      class_counts: loss → for each of its labels, how many labels of each class the training split has; of losses whose
        weights of classes need it.
      features: the configuration's key of a source → feature → its form, as `remembered.form` gives it; of files.
    """

    fingerprints: Mapping[str, Mapping[str, str]]
    statistics: Mapping[str, Statistics]
    feeds: Mapping[str, str]
    class_counts: Mapping[str, list[list[int]]] = dataclasses.field(default_factory=dict)
    features: Mapping[str, Mapping[str, Mapping[str, Any]]] = dataclasses.field(default_factory=dict)


def changes(saved: SavedData, now: SavedData, what: str = "has changed since the run began") -> list[str]:
    """Returns a line, which ends in `what`, for every split whose fingerprint is not that in `saved`."""
    return [
        f"{field}: the {split} split {what}"
        for field, before in saved.fingerprints.items()
        for split, fingerprint in before.items()
        if now.fingerprints.get(field, {}).get(split) != fingerprint
    ]


def to_json(saved: SavedData) -> str:
    """Returns what a run keeps of its data as JSON."""
    return json.dumps(dataclasses.asdict(saved), indent=1) + "\n"


def of_json(text: str) -> SavedData:
    """Reads the text that `to_json` wrote; raises ValueError for anything else."""
    parts = json_text.parse(text, finite=False)
    if not saved_form.fits(parts):
        raise ValueError("it does not hold what a run keeps of its data")
    return SavedData(**parts)


def save(saved: SavedData, path: pathlib.Path) -> None:
    """Writes what a run keeps of its data as JSON."""
    atomic_files.write_whole(path, to_json(saved))


def load_saved(path: pathlib.Path) -> SavedData | None:
    """Reads what `save` wrote; None where a run has none. Raises ConfigError where it cannot be read."""
    try:
        return of_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError("--workdir", str(path), f"cannot be read: {first_line(error)}") from error
