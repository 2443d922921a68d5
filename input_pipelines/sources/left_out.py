"""Lines for the user about what of a source's data is not read."""

from collections.abc import Mapping

from input_pipelines.configuration import SourceConfig
from input_pipelines.sources.source import Source


def notes(config: SourceConfig, field: str, sources: Mapping[str, Source]) -> tuple[str, ...]:
    """Returns lines about pictures that do not decode.

    Args:
      config: the source.
      field: the configuration's key of the source.
      sources: its splits.
    """
    del config
    return tuple(
        f"{field}: {each.skipped} images of the {name} split do not decode and were left out"
        for name, each in sources.items()
        if each.skipped
    )
