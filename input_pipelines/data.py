"""The data of a run: every split, what was learned from the training split, and a fingerprint of both."""

import dataclasses
import functools
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from input_pipelines import configuration, examples, names, opening, overlap, remembered
from input_pipelines.configuration import TRAIN, DatasetConfig, SourceConfig
from input_pipelines.examples import Examples, NotFinite, Ordered
from input_pipelines.feed import augmentation, in_order, mixture, usable
from input_pipelines.feed import splits as splits_lib
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.feed.in_order import InOrder
from input_pipelines.feed.mixture import Mixture
from input_pipelines.feed.splits import Split
from input_pipelines.feed.streaming import Streamed
from input_pipelines.names import Names
from input_pipelines.preparation import inverses, leaks, preparation
from input_pipelines.preparation.inverses import Inverse
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.saved_data import SavedData
from input_pipelines.sources import left_out
from input_pipelines.sources.source import Source, of_arrays
from trainer.common.errors import ConfigError
from trainer.common.trust import NOBODY, Trust


@dataclasses.dataclass(frozen=True)
class Data:
    """The data of a run.

    Attributes:
      splits: split → its examples; `train`, `validation` and perhaps others.
      saved: what the run keeps.
      notes: lines for the user: what was left out.
      names: of columns and classes.
      not_finite: numbers in arrays of the user's own that are NaN or infinite.
      inverses: target → the way back to its source's units, along which a function's own values stay as they are.
    """

    splits: Mapping[str, Split]
    saved: SavedData
    notes: tuple[str, ...] = ()
    names: Names = Names()
    not_finite: tuple[NotFinite, ...] = ()
    inverses: Mapping[str, Inverse] = dataclasses.field(default_factory=dict)


def build(
    config: DatasetConfig, saved: SavedData | None = None, trust: Trust = NOBODY, segments: str | None = None
) -> Data:
    """The configured data, floating-point numbers in Keras' `floatx`.

    Args:
      config: the configuration's `dataset`.
      saved: what an earlier process of the same run kept: its statistics and counts are used again.
      trust: whose code may be called where the data name it.
      segments: a feature that becomes a target where it is no target or input by its name, beside what it is made into
        otherwise; None: there is none.

    Raises:
      ConfigError: the data cannot be used, naming the file and the row or record.
    """
    data = _build(config, saved, trust, segments)
    return data if saved is None else with_class_counts(data, saved.class_counts)


def with_class_counts(data: Data, counts: Mapping[str, list[list[int]]]) -> Data:
    """The data with these counts of classes among what the run keeps."""
    return dataclasses.replace(data, saved=dataclasses.replace(data.saved, class_counts=dict(counts)))


def _build(config: DatasetConfig, saved: SavedData | None, trust: Trust, segments: str | None) -> Data:
    fields = {"dataset": config} if config.sources is None else configuration.parts(config)
    files = {field: source for field, source in fields.items() if not configuration.is_function(source.name)}
    unsized = {field: opening.open_source(source, field, trust) for field, source in files.items()}
    features = {field: remembered.form(sources[TRAIN]) for field, sources in unsized.items()}
    opened = {field: opening.sized(source, field, unsized[field]) for field, source in files.items()}
    # What one name means is learned from all sources together.
    trains = {field: (files[field], sources[TRAIN]) for field, sources in opened.items()}
    try:
        prepared = preparation.build(trains, saved and saved.statistics, segments)
        built = {
            field: _fed(source, field, opened[field], prepared[field], saved)
            if field in opened
            else of_function(source, field)
            for field, source in fields.items()
        }
    except ConfigError as error:  # how a file was read may be the reason
        for note in left_out.of_reading(split for sources in opened.values() for split in sources.values()):
            error.add_note(note)
        raise
    said = overlap.notes(fields, {field: one.saved.fingerprints[field] for field, one in built.items()})
    data = built["dataset"] if config.sources is None else mixed(config, built)
    kept = dataclasses.replace(data.saved, features=features)
    return dataclasses.replace(data, saved=kept, notes=data.notes + said)


def mixed(config: DatasetConfig, built: Mapping[str, Data]) -> Data:
    """The data of several sources as one."""
    together = SavedData(
        {field: one.saved.fingerprints[field] for field, one in built.items()},
        {field: one.saved.statistics[field] for field, one in built.items()},
        {field: one.saved.feeds[field] for field, one in built.items()},
    )
    notes = tuple(note for one in built.values() for note in one.notes)
    quotas = {name: source.quota for name, source in config.sources.items()}
    mixed = {}
    for split in _in_all({name: built[f"dataset.sources.{name}"].splits for name in quotas}):
        parts = {name: built[f"dataset.sources.{name}"].splits[split] for name in quotas}
        mixture.check(parts, "dataset.sources")
        mixed[split] = Mixture(parts, quotas)
    wrong = tuple(number for one in built.values() for number in one.not_finite)
    inverses_of = inverses.merged(one.inverses for one in built.values())
    return Data(mixed, together, notes, names.merged(one.names for one in built.values()), wrong, inverses_of)


def _in_all(sources: Mapping[str, Mapping[str, Split]]) -> list[str]:
    """The splits of several sources; raises ConfigError for one that some of them lack."""
    names_of = dict.fromkeys(split for splits in sources.values() for split in splits)
    for split in names_of:
        with_it = [name for name, splits in sources.items() if split in splits]
        for name, splits in sources.items():
            if split not in splits:
                reason = (
                    f"has no {split!r} split, which source {with_it[0]!r} has; a split is of all sources or of none"
                )
                raise ConfigError(f"dataset.sources.{name}.splits", sorted(splits), reason)
    return list(names_of)


def _fed(
    config: SourceConfig, field: str, sources: Mapping[str, Source], prepare: Preparation, saved: SavedData | None
) -> Data:
    """The data of a source: every split prepared and held in memory, or streamed."""
    for name, leaf in splits_lib.per_example(prepare.spec):
        if 0 in leaf.shape.as_list():
            raise ConfigError(f"{field}.{name}", f"{leaf.dtype.name}{leaf.shape.as_list()}", examples.EMPTY)
    feed = _feed(config, field, sources, prepare)
    if config.feed == "auto" and saved is not None:
        feed = saved.feeds.get(field, feed)
    if feed == "streaming":
        built = {name: Streamed(source, prepare) for name, source in sources.items()}
        for name, split in built.items():
            split.check_first(f"{field}.splits.{name}")
    else:
        built = {name: _in_memory(source, prepare, f"{field}.{name}") for name, source in sources.items()}
    needless = _needless_missing(built[TRAIN], config, field)
    _augment(built, config, field)
    return Data(
        built,
        SavedData(
            {field: {name: source.fingerprint() for name, source in sources.items()}},
            {field: prepare.statistics},
            {field: feed},
        ),
        left_out.notes(config, field, sources)
        + needless
        + leaks.notes(config, prepare.configured(config), sources[TRAIN], field),
        names.of(prepare, sources[TRAIN]),
        inverses=inverses.of(prepare),
    )


def of_function(config: SourceConfig, field: str) -> Data:
    """The data that a function gives, `field` being the configuration's key of it."""
    loaded = examples.load(config, floatx=keras.config.floatx(), field=field)
    ordered = {name: split for name, split in loaded.items() if isinstance(split, Ordered)}
    built = {
        name: InOrder(split, f"{field}.{name}") if name in ordered else InMemory(split)
        for name, split in loaded.items()
    }
    _augment(built, config, field)
    fingerprints = {
        name: of_arrays(in_order.identity(split) if name in ordered else splits_lib.flat(split.structure))
        for name, split in loaded.items()
    }
    saved = SavedData({field: fingerprints}, {field: {}}, {field: "in_order" if ordered else "memory"})
    notes = tuple(line for name in ordered for line in built[name].notes())
    as_they_are = dict.fromkeys(built[TRAIN].spec["targets"], Inverse())
    return Data(built, saved, notes, not_finite=examples.not_finite(loaded, field), inverses=as_they_are)


def _augment(built: dict[str, Streamed | InMemory | InOrder], config: SourceConfig, field: str) -> None:
    """Gives the training split the configured augmentation, in place."""
    train = built[TRAIN]
    changes = augmentation.build(config.augment, f"{field}.augment", train.spec, train.first)
    built[TRAIN] = dataclasses.replace(train, augmentation=changes)


def _needless_missing(train: Streamed | InMemory, config: SourceConfig, field: str) -> tuple[str, ...]:
    """Lines about values that mean "missing" and that no label of a training split held in memory has."""
    if not isinstance(train, InMemory):
        return ()
    return tuple(
        f"{field}.targets.{name}.missing={target.missing!r}: no label of the training split is that, nor absent"
        for name, target in config.targets.items()
        if target.missing is not None and name not in train.examples.weights
    )


def _feed(config: SourceConfig, field: str, sources: Mapping[str, Source], prepare: Preparation) -> str:
    streams = all(source.records is not None for source in sources.values())
    if config.feed == "streaming" and not streams:
        raise ConfigError(
            f"{field}.feed", "streaming", f"{config.name!r} is read as a whole; write TFRecords to stream"
        )
    if config.feed != "auto":
        return config.feed
    example = sum(
        leaf.dtype.size * (leaf.shape.num_elements() or 0) for _, leaf in splits_lib.per_example(prepare.spec)
    )
    size = example * sum(len(source) for source in sources.values())
    return "streaming" if streams and size > config.memory_limit else "memory"


def _in_memory(source: Source, prepare: Preparation, field: str) -> InMemory:
    """A split prepared as a whole; without weights of targets that have all their labels."""
    arrays = tf.nest.map_structure(
        lambda leaf: np.empty((len(source), *leaf.shape), leaf.dtype.as_numpy_dtype), prepare.spec
    )
    first = 0
    for chunk in source.chunks(prepare.features):
        prepared = prepare.of_arrays(chunk)
        count = len(tf.nest.flatten(prepared)[0])
        for array, values in zip(tf.nest.flatten(arrays), tf.nest.flatten(prepared), strict=True):
            array[first : first + count] = values.numpy()
        usable.check(prepared, prepare, source, first, field)
        first += count
    weights = {name: array for name, array in arrays.get("weights", {}).items() if not (array == 1).all()}
    split = Examples(arrays["inputs"], arrays["targets"], weights)
    examples.check_weights(split, field)
    places = {name: functools.partial(chain.place, source) for name, chain in prepare.targets.items()}
    return InMemory(split, None, prepare.categories(), source.where, places)
