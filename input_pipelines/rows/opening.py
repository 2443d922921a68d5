"""The rows that are asked for: those of a split of the run, of a file or folder, or of arrays."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from input_pipelines import configuration, opening
from input_pipelines.configuration import DatasetConfig, SourceConfig
from input_pipelines.kept_data import KeptData
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.registry import ROWS, SOURCES, TFDS
from input_pipelines.remembered import Remembered
from input_pipelines.rows import array_rows, rows
from input_pipelines.rows.rows import FIELD, OfSource, Rows
from input_pipelines.sources.image_folder import Folder
from trainer.common import import_paths
from trainer.common.errors import ConfigError, unknown
from trainer.common.trust import Trust

_SOURCE, _SPLIT = "--source", "--split"


@dataclasses.dataclass(frozen=True)
class Opened:
    """Rows and what is made of them.

    Attributes:
      rows: in their order.
      preparation: what they are prepared by.
      field: the configuration's key of their source.
    """

    rows: Rows
    preparation: Preparation
    field: str


def chosen(config: DatasetConfig, source: str | None) -> tuple[str, SourceConfig]:
    """Returns the configuration's key and the settings of the source of this name, or of the only one.

    Raises:
      ConfigError: there are several and none is named, or there is none of this name.
    """
    if config.sources is None:
        if source is not None:
            raise ConfigError(_SOURCE, source, "is for runs with several dataset.sources; this one has a single source")
        return "dataset", config
    if source is None:
        names = ", ".join(config.sources)
        raise ConfigError(_SOURCE, ConfigError.ABSENT, f"is missing: the run has several sources ({names})")
    if source not in config.sources:
        raise unknown(_SOURCE, source, "source", config.sources)
    return f"dataset.sources.{source}", config.sources[source]


def check_path(config: SourceConfig) -> None:
    """Raises ConfigError where the examples of a source come from nothing that a path can name."""
    if configuration.is_function(config.name):
        reason = f"names a file, but the run's data come from a function, {config.name!r}: its splits alone can be read"
        raise ConfigError(FIELD, ConfigError.ABSENT, reason)
    if configuration.kind_of(config.name) == TFDS:
        raise ConfigError(FIELD, ConfigError.ABSENT, f"names a file, but the run's data are of TFDS: use {_SPLIT}")


def of_path(config: SourceConfig, field: str, path: str, kept: KeptData, *, targets: bool = False) -> Opened:
    """The rows of a file or folder that need not have been there when the run was trained.

    Args:
      config: the run's source.
      field: the configuration's key of it.
      path: the file or folder, of the same kind.
      kept: what the run keeps of its data.
      targets: whether targets are read, too.

    Raises:
      ConfigError: it cannot be read, or lacks what inputs (and targets) are made of.
    """
    check_path(config)
    if targets:
        _check_decided(config, field, kept.sources[field])
    prepare = kept.preparations[field] if targets else rows.for_inputs(kept.preparations[field])
    open_rows = import_paths.load(ROWS[configuration.kind_of(config.name)], f"{field}.name")
    return Opened(open_rows(config, field, path, prepare, kept.sources[field]), prepare, field)


def _check_decided(config: SourceConfig, field: str, train: Remembered) -> None:
    """Raises ConfigError for a target whose numbers in training said how it is resized, which is not remembered."""
    for name, target in (config.targets or {}).items():
        resized = [each for each in target.prepare if each["name"] == "resize" and each.get("method") is None]
        given = name if target.feature is None else target.feature
        for feature in [given] if isinstance(given, str) else given:
            if resized and feature in train.unsized and train.unsized[feature].dtype.is_floating:
                reason = f"holds real numbers; 'method' must say how they are resized to evaluate on {FIELD}"
                raise ConfigError(f"{field}.targets.{name}.prepare", feature, reason)


def of_split(config: SourceConfig, field: str, split: str, kept: KeptData, trust: Trust) -> Opened:
    """The rows of a split of files, in the order of the split; of TFDS, of any split that it can name (`test[:10%]`).

    Args:
      config: the run's source.
      field: the configuration's key of it.
      split: its name.
      kept: what the run keeps of its data.
      trust: whose code may be called where the data name it.

    Raises:
      ConfigError: there is no such split, or it cannot be read.
    """
    sources = opening.open_source(config, field, trust)
    if split not in sources and configuration.kind_of(config.name) == TFDS:
        open_splits = import_paths.load(SOURCES[TFDS], f"{field}.name")
        sources = open_splits(dataclasses.replace(config, splits={split: [split]}), field, trust)
    if split not in sources:
        raise unknown(_SPLIT, split, "split", sources)
    prepare = dataclasses.replace(kept.preparations[field], targets={})
    sizes = kept.sources[field].sizes
    return Opened(OfSource(sources[split].resized(sizes) if sizes else sources[split]), prepare, field)


def of_columns(columns: Mapping[str, Any], field: str, kept: KeptData, name: str) -> Opened:
    """The rows of arrays by feature, or of a frame of pandas, which errors call `name`."""
    prepare = rows.for_inputs(kept.preparations[field])
    return Opened(array_rows.of_columns(columns, prepare, name), prepare, field)


def usually_kept(opened: Opened) -> tuple[str, ...]:
    """Returns the columns that tell rows apart where none are asked for: of folders of pictures, the file."""
    is_folder = isinstance(opened.rows, OfSource) and isinstance(opened.rows.source, Folder)
    return ("file",) if is_folder else ()
