"""Lines for the user about what of a source's data is not read."""

import os
from collections.abc import Iterable, Mapping

from input_pipelines.configuration import SourceConfig
from input_pipelines.registry import FILES
from input_pipelines.sources import folders, source
from input_pipelines.sources.source import Source


def notes(config: SourceConfig, field: str, sources: Mapping[str, Source]) -> tuple[str, ...]:
    """Returns lines about files in no split, about what splits say themselves, and about pictures that do not decode.

    Args:
      config: the source.
      field: the configuration's key of the source.
      sources: its splits.
    """
    undecodable = tuple(
        f"{field}: {each.skipped} images of the {name} split do not decode and were left out"
        for name, each in sources.items()
        if each.skipped
    )
    return _unread_files(config, field) + of_reading(sources.values()) + undecodable


def of_reading(splits: Iterable[Source]) -> tuple[str, ...]:
    """Returns what splits say themselves; of all, or of the one of which parts were made, it is said once."""
    return tuple(dict.fromkeys(note for each in splits for note in each.notes))


def _unread_files(config: SourceConfig, field: str) -> tuple[str, ...]:
    """A line about the files of a folder that are in no split; none where `config.splits` chooses them."""
    if config.name not in FILES or config.splits or not os.path.isdir(config.path):
        return ()
    found = source.find(config, field, FILES[config.name])
    used = {os.path.basename(path) for paths in found.values() for path in paths}
    return folders.unread(config.path, used, field)
