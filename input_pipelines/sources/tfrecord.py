"""TFRecord files of `tf.train.Example`s, described by `options.features`:

"options": {"features": {"image": {"dtype": "uint8", "shape": [28, 28, 1], "encoding": "image"}, "label": "int64"}}
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.sources import pictures, record_files, source
from input_pipelines.sources.record_files import Blocks, Part
from input_pipelines.sources.source import Records
from trainer.common import schema
from trainer.common.errors import ConfigError, reason_of
from trainer.common.schema import setting

_STORED = ("float32", "int64", "string")
_DTYPES = (*_STORED, "uint8", "int32", "float64", "bool")
_CAN_BE_ABSENT = (*_STORED, "float64")  # the others have no value that stands for "absent"


@dataclasses.dataclass(frozen=True)
class FeatureOptions:
    """A feature of an example.

    `encoding` is "image" for an encoded picture (PNG, JPEG, BMP, GIF) and "raw" for the bytes of an array of `dtype`; a
    side of a picture may be -1 where it varies. An `optional` feature may be absent: NaN, no text, or a missing label.
    """

    dtype: str = setting(schema.choice("dtype", _DTYPES))
    shape: list[int] = setting(schema.sequence(schema.integer(-1)), [])
    encoding: str | None = setting(schema.optional(schema.choice("encoding", ("image", "raw"))), None)
    optional: bool = setting(schema.boolean, False)


@dataclasses.dataclass(frozen=True)
class Options:
    """The features of an example."""

    features: dict[str, FeatureOptions] = setting(lambda value, field: _feature_options(value, field))


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """One split (see `source.Source`).

    Attributes:
      blocks: where its records are.
      described: feature → how it is stored.
      sizes: feature → the size to bring its pictures to.
      kept: (records,) bool, those that decode; None: all.
    """

    blocks: Blocks
    described: Mapping[str, FeatureOptions]
    sizes: Mapping[str, Resize] = dataclasses.field(default_factory=dict)
    kept: np.ndarray | None = None
    classes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def features(self) -> Mapping[str, tf.TensorSpec]:
        """See `source.Source`."""
        return {name: pictures.sized(_spec(each), self.sizes.get(name)) for name, each in self.described.items()}

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
        records = Records(self.blocks.sizes, self.blocks.reader(), self._decode, self.blocks.mixed)
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
        stored = {name: _stored(each) for name, each in images.items()}
        decodable: list[bool] = []
        try:
            for parsed in self.records.in_order().map(
                lambda serialized: tf.io.parse_single_example(serialized, stored)
            ):
                decodable.append(all(pictures.decodes(parsed[name].numpy(), images[name].shape[2]) for name in images))
        except tf.errors.OpError as error:
            raise ConfigError(self.where(len(decodable)), ConfigError.ABSENT, reason_of(error)) from error
        return self if all(decodable) else dataclasses.replace(self, kept=np.array(decodable))

    def _decode(self, serialized: tf.Tensor, indices: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
        del indices
        stored = tf.io.parse_example(serialized, {name: _stored(self.described[name]) for name in names})
        return {name: self._value(name, values) for name, values in stored.items()}

    def _value(self, name: str, stored: tf.Tensor) -> tf.Tensor:
        each = self.described[name]
        if each.encoding == "image":
            return pictures.decode(stored, _spec(each), self.sizes.get(name))
        if each.encoding == "raw":
            size = tf.as_dtype(each.dtype).size * math.prod(each.shape)
            wrong = tf.not_equal(tf.strings.length(stored), size)
            text = [
                f"feature {name!r} must have {size} bytes and has",
                tf.strings.length(tf.boolean_mask(stored, wrong)),
            ]
            with tf.control_dependencies([tf.debugging.Assert(tf.logical_not(tf.reduce_any(wrong)), text)]):
                return tf.reshape(tf.io.decode_raw(stored, each.dtype), [-1, *each.shape])
        return stored if stored.dtype.name == each.dtype else tf.cast(stored, each.dtype)


def open_splits(config: SourceConfig, field: str) -> dict[str, RecordFiles]:
    """The splits of `config.splits`, each of any number of files; `path` alone is the training split.

    Raises:
      ConfigError: a file that is missing or cut off, features that are not described, or, where pictures that do not
        decode are to be left out, a record that cannot be read.
    """
    files = source.find(config, field, "*.tfrecord*")
    if "features" not in config.options:
        raise ConfigError(
            f"{field}.options.features",
            ConfigError.ABSENT,
            f"is missing: how examples are stored; the first record holds {_first_record(files)}",
        )
    options = schema.record(Options)(config.options, f"{field}.options")
    opened = {}
    for name, paths in files.items():
        blocks = record_files.blocks([Part(path) for path in paths], config.window, f"{field}.splits.{name}")
        split = RecordFiles(blocks, options.features)
        opened[name] = split.without_undecodable() if config.undecodable == "skip" else split
    return opened


def _feature_options(value: Any, field: str) -> dict[str, FeatureOptions]:
    if not isinstance(value, dict) or not value:
        raise ConfigError(field, value, "must be a dictionary from features to how they are stored")
    described = {}
    for name, each in value.items():
        at = f"{field}.{name}"
        described[name] = one = schema.record(FeatureOptions)({"dtype": each} if isinstance(each, str) else each, at)
        if one.encoding is None and one.dtype == "uint8":
            raise ConfigError(f"{at}.encoding", ConfigError.ABSENT, "is missing for uint8: 'image' or 'raw'")
        if one.encoding == "image" and (one.dtype != "uint8" or len(one.shape) != 3 or one.shape[2] not in (1, 3, 4)):
            raise ConfigError(at, each, "pictures are uint8 of shape [height, width, 1, 3 or 4]")
        if one.encoding != "image" and -1 in one.shape:
            raise ConfigError(f"{at}.shape", one.shape, "must be known; -1 is for pictures")
        if one.encoding == "raw" and one.dtype == "string":
            raise ConfigError(f"{at}.encoding", "raw", "is for numbers; text is stored as it is")
        if one.optional and (one.encoding is not None or one.dtype not in _CAN_BE_ABSENT):
            raise ConfigError(f"{at}.optional", True, f"is for {', '.join(_CAN_BE_ABSENT)} without encoding")
    return described


def _spec(each: FeatureOptions) -> tf.TensorSpec:
    return tf.TensorSpec([None if length == -1 else length for length in each.shape], each.dtype)


def _stored(each: FeatureOptions) -> tf.io.FixedLenFeature:
    if each.encoding is not None:
        return tf.io.FixedLenFeature((), tf.string)
    kind = {"float64": "float32", "int32": "int64", "bool": "int64"}.get(each.dtype, each.dtype)
    absent = {"float32": np.nan, "int64": source.ABSENT_INTEGER, "string": b""}[kind]
    default = np.full(each.shape, absent) if each.optional else None
    return tf.io.FixedLenFeature(each.shape, kind, None if default is None else tf.constant(default, kind))


def _first_record(files: Mapping[str, Sequence[str]]) -> str:
    """The features of the first record, in words."""
    try:
        serialized = next(iter(tf.data.TFRecordDataset(next(iter(files.values()))[0])))
        features = tf.train.Example.FromString(serialized.numpy()).features.feature
    except (StopIteration, tf.errors.OpError, ValueError):
        return "nothing that can be read"
    kinds = {"bytes_list": "string", "float_list": "float32", "int64_list": "int64"}
    shown = []
    for name, feature in sorted(features.items()):
        kind = feature.WhichOneof("kind") or "bytes_list"
        shown.append(f"{name!r} ({len(getattr(feature, kind).value)} {kinds[kind]})")
    return ", ".join(shown)
