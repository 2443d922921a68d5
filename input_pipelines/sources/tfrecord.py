"""TFRecord files of `tf.train.Example`s, described by `options.features`:

"options": {"features": {"image": {"dtype": "uint8", "shape": [28, 28, 1], "encoding": "image"}, "label": "int64"}}
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.registry import FILES
from input_pipelines.sources import pictures, record_files, record_words, source, stored_features
from input_pipelines.sources.record_files import Blocks, Part
from input_pipelines.sources.source import Records
from input_pipelines.sources.stored_features import FeatureOptions
from trainer.common import schema
from trainer.common.errors import ConfigError, reason_of
from trainer.common.schema import setting


@dataclasses.dataclass(frozen=True)
class Options:
    """The features of an example."""

    features: dict[str, FeatureOptions] = setting(stored_features.feature_options)


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """One split (see `source.Source`).

    Attributes:
      blocks: where its records are.
      described: feature → how it is stored.
      sizes: feature → the size to bring its pictures to.
      kept: (records,) bool, those that decode; None: all.
      targets: the features that targets are made of.
    """

    blocks: Blocks
    described: Mapping[str, FeatureOptions]
    sizes: Mapping[str, Resize] = dataclasses.field(default_factory=dict)
    kept: np.ndarray | None = None
    classes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    targets: frozenset[str] = frozenset()

    @property
    def features(self) -> Mapping[str, tf.TensorSpec]:
        """See `source.Source`."""
        described = self.described.items()
        return {name: pictures.sized(stored_features.spec(each), self.sizes.get(name)) for name, each in described}

    @property
    def optional(self) -> frozenset[str]:
        """See `source.Source`."""
        return frozenset(name for name, each in self.described.items() if each.optional)

    @property
    def skipped(self) -> int:
        """See `source.Source`."""
        return 0 if self.kept is None else int(np.sum(~self.kept))

    @property
    def records(self) -> Records:
        """See `source.Source`."""
        records = Records(self.blocks.sizes, self.blocks.reader(), self._decode, self.blocks.mixed, self._explain)
        return records if self.kept is None else records.keeping(self.kept)

    def __len__(self) -> int:
        return int(self.blocks.sizes.sum()) - self.skipped

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See `source.Source`."""
        return self.records.chunks(names, self.where)

    def where(self, index: int) -> str:
        """See `source.Source`."""
        return self.blocks.where(index if self.kept is None else int(np.flatnonzero(self.kept)[index]))

    def fingerprint(self) -> str:
        """See `source.Source`."""
        return source.of_files(list(dict.fromkeys(self.blocks.paths)))

    def resized(self, sizes: Mapping[str, Resize]) -> "RecordFiles":
        """See `source.Source`."""
        return dataclasses.replace(self, sizes=sizes)

    def without_undecodable(self) -> "RecordFiles":
        """The split without the records that hold a picture which does not decode."""
        images = {name: each for name, each in self.described.items() if each.encoding == "image"}
        if not images or not len(self):
            return self
        decodable: list[bool] = []
        try:
            for parsed in self.records.in_order().map(
                lambda serialized: stored_features.parse(serialized[tf.newaxis], images)
            ):
                decodable.append(
                    all(pictures.decodes(parsed[name].numpy()[0], each.shape[2], each) for name, each in images.items())
                )
        except tf.errors.OpError as error:
            raise ConfigError(self.where(len(decodable)), ConfigError.ABSENT, reason_of(error)) from error
        return self if all(decodable) else dataclasses.replace(self, kept=np.array(decodable))

    def _decode(self, serialized: tf.Tensor, indices: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
        del indices
        described = {name: self.described[name] for name in names}
        parsed = stored_features.parse(serialized, described)
        return {
            name: stored_features.value(name, each, parsed[name], self.sizes.get(name), name in self.targets)
            for name, each in described.items()
        }

    def _explain(self, record: bytes, names: Sequence[str]) -> str | None:
        return record_words.fault(record, self.described, names)


def open_splits(config: SourceConfig, field: str) -> dict[str, RecordFiles]:
    """The splits of `config.splits`, each of any number of files; `path` alone is the training split.

    Raises:
      ConfigError: a file that is missing or cut off, features that are not described, or, where pictures that do not
        decode are to be left out, a record that cannot be read.
    """
    files = source.find(config, field, FILES["tfrecord"])
    if "features" not in config.options:
        first = record_files.first_record(next(iter(files.values()))[0], field)
        raise ConfigError(
            f"{field}.options.features",
            ConfigError.ABSENT,
            f"is missing: how examples are stored; the first record holds {record_words.contents(first)}",
        )
    options = schema.record(Options)(config.options, f"{field}.options")
    opened = {}
    for name, paths in files.items():
        at = f"{field}.splits.{name}"
        if found := record_words.sequences(record_files.first_record(paths[0], at)):
            raise ConfigError(at, paths[0], f"holds {found}; only tf.train.Examples are read")
        blocks = record_files.blocks([Part(path) for path in paths], config.window, at)
        split = RecordFiles(blocks, options.features, targets=pictures.make_targets(config, tuple(options.features)))
        opened[name] = split.without_undecodable() if config.undecodable == "skip" else split
    return opened
