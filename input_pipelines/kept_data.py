"""The data of a run as it keeps them: what is needed to read other data the same way, without an example of its own."""

import dataclasses
from collections.abc import Mapping

from input_pipelines import configuration, data, names, opening, remembered
from input_pipelines.configuration import TRAIN, VALIDATION, DatasetConfig, SourceConfig
from input_pipelines.data import Data
from input_pipelines.feed.unread import Unread
from input_pipelines.preparation import inverses, preparation
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.remembered import Remembered
from input_pipelines.saved_data import SavedData
from input_pipelines.sources.source import Source
from trainer.common.errors import ConfigError
from trainer.common.trust import NOBODY, Trust


@dataclasses.dataclass(frozen=True)
class KeptData:
    """The part of its data that a run keeps.

    Attributes:
      data: names, inverses and, in place of splits of files, their form; the splits of functions themselves.
      preparations: the configuration's key of a source → its preparation; of files.
      sources: the configuration's key of a source → its training split, without an example, its pictures at the size
        that they are brought to; of files.
    """

    data: Data
    preparations: Mapping[str, Preparation]
    sources: Mapping[str, Remembered]


def read(
    config: DatasetConfig,
    saved: SavedData,
    trust: Trust = NOBODY,
    segments: str | None = None,
) -> KeptData:
    """Returns what a run keeps of its data; reads no file of them, and calls functions.

    The files of a run from before features were kept are looked into, but no more than that.

    Args:
      config: the configuration's `dataset`.
      saved: what the run saved.
      trust: whose code may be called where the data name it.
      segments: as of `data.build`.

    Raises:
      ConfigError: what was saved does not fit the configuration, or is not there and neither are the files.
    """
    fields = configuration.parts(config)
    files = {field: source for field, source in fields.items() if not configuration.is_function(source.name)}
    sources = {field: _remembered(source, field, saved, trust) for field, source in files.items()}
    sized = {field: opening.sized(source, field, {TRAIN: sources[field]})[TRAIN] for field, source in files.items()}
    trains = {field: (source, sized[field]) for field, source in files.items()}
    prepared = preparation.build(trains, saved.statistics, segments)
    for field, each in prepared.items():
        if each.statistics != saved.statistics.get(field):
            raise ConfigError("--workdir", field, "is not what data.json of the run is of")
    built = {
        field: _unread(prepared[field], sized[field], field, saved)
        if field in files
        else _of_function(source, field, several=len(fields) > 1)
        for field, source in fields.items()
    }
    together = built["dataset"] if config.sources is None else data.mixed(config, built)
    return KeptData(dataclasses.replace(together, saved=saved), prepared, sized)


def _remembered(config: SourceConfig, field: str, saved: SavedData, trust: Trust) -> Remembered:
    features = saved.features.get(field) or remembered.form(opening.open_source(config, field, trust)[TRAIN])
    return remembered.of_form(features)


def _unread(prepare: Preparation, source: Source, field: str, saved: SavedData) -> Data:
    split = Unread(prepare.spec, prepare.categories())
    own = SavedData(*({field: part[field]} for part in (saved.fingerprints, saved.statistics, saved.feeds)))
    return Data({TRAIN: split, VALIDATION: split}, own, names=names.of(prepare, source), inverses=inverses.of(prepare))


def _of_function(config: SourceConfig, field: str, *, several: bool) -> Data:
    """The data that a function gives; beside other sources without the splits that those cannot stand for."""
    found = data.of_function(config, field)
    if not several:
        return found
    return dataclasses.replace(found, splits={name: found.splits[name] for name in (TRAIN, VALIDATION)})
