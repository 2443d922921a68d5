"""Sources as they are opened: their splits, before anything is made of them."""

from collections.abc import Mapping

from input_pipelines import configuration, part_settings
from input_pipelines.configuration import TRAIN, VALIDATION, SourceConfig
from input_pipelines.preparation import building
from input_pipelines.registry import SOURCES, TFDS
from input_pipelines.sources import parting
from input_pipelines.sources.source import Source
from trainer.common import import_paths
from trainer.common.errors import ConfigError
from trainer.common.trust import Trust


def open_source(config: SourceConfig, field: str, trust: Trust) -> dict[str, Source]:
    """The splits of a source as they are read, `train` and `validation` first, each with an example at least.

    Args:
      config: the source, which is no function.
      field: the configuration's key of it.
      trust: whose code may be called where the data name it.

    Raises:
      ConfigError: they cannot be read, or a split is missing.
    """
    kind = configuration.kind_of(config.name)
    open_splits = import_paths.load(SOURCES[kind], f"{field}.name")
    # Of all data, only those of TFDS can name code.
    sources: dict[str, Source] = open_splits(config, field, trust) if kind == TFDS else open_splits(config, field)
    if part_settings.made(config.held_out, config.fold):
        named = {name: source for name, source in sources.items() if name in config.splits}
        sources = named | parting.part(config, sources[TRAIN], field)
    for split in (TRAIN, VALIDATION):
        if split not in sources:
            raise ConfigError(f"{field}.splits", sorted(sources), f"needs a {split!r} split, or {field}.held_out")
    for split, source in sources.items():
        if not len(source):
            raise ConfigError(f"{field}.splits.{split}", ConfigError.ABSENT, "holds no example")
    return {split: sources[split] for split in dict.fromkeys((TRAIN, VALIDATION, *sources))}


def sized(config: SourceConfig, field: str, sources: Mapping[str, Source]) -> Mapping[str, Source]:
    """The splits with pictures whose size varies brought to the size that their preparation begins with.

    Raises:
      ConfigError: a feature that does not exist, or one whose shape varies and that is prepared in another way.
    """
    sizes = building.sizes(config, field, sources[TRAIN])
    return {name: source.resized(sizes) for name, source in sources.items()} if sizes else sources
