"""TensorFlow Datasets: `tfds/<name>` of the catalogue, or a prepared directory (`tfds` with `path`).

Nothing is downloaded unless `prepare` is called, which is what `--download` does.
https://www.tensorflow.org/datasets/overview
"""

import contextlib
import dataclasses
import fcntl
import functools
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from input_pipelines import configuration
from input_pipelines.configuration import DatasetConfig, SourceConfig
from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.sources import feature_classes, feature_paths, pictures, record_files, source
from input_pipelines.sources.record_files import Blocks, Part
from input_pipelines.sources.source import CHUNK, Records
from trainer.common.errors import ConfigError, NotPreparedError, first_line, unknown
from trainer.common.trust import NOBODY, Trust

_MEANT_TO_VALIDATE = ("validation", "test")


@dataclasses.dataclass(frozen=True)
class CatalogueSplit:
    """One split (see `source.Source`).

    Attributes:
      builder: of the dataset.
      split: in TFDS's own words, `train[:90%]`.
      field: the configuration's key of the split, for errors.
      window: examples of a window.
      sizes: feature → the size to bring its pictures to.
    """

    builder: tfds.core.DatasetBuilder
    split: str
    field: str
    window: int
    sizes: Mapping[str, Resize] = dataclasses.field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    skipped: int = 0

    @functools.cached_property
    def features(self) -> Mapping[str, tf.TensorSpec]:
        """See `source.Source`: those that are tensors."""
        found = {}
        for name, connector in self._connectors.items():
            info = connector.get_tensor_info()
            if isinstance(info, tfds.features.TensorInfo):
                found[name] = pictures.sized(tf.TensorSpec(info.shape, info.tf_dtype), self.sizes.get(name))
        return found

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """See `source.Source`."""
        return {
            name: each.names for name, each in self._connectors.items() if isinstance(each, tfds.features.ClassLabel)
        }

    @functools.cached_property
    def records(self) -> Records | None:
        """See `source.Source`; None where TFDS makes the data up (`tfds.testing.mock_data`)."""
        if self._blocks is None:
            return None
        return Records(self._blocks.sizes, self._blocks.reader(), self._decode, self._blocks.mixed)

    @functools.cached_property
    def _blocks(self) -> Blocks | None:
        info = self.builder.info
        if not info.splits:
            return None
        parts = [
            Part(each.filename, each.skip, each.examples_in_shard - each.skip if each.take == -1 else each.take)
            for each in info.splits[self.split].file_instructions
        ]
        return record_files.blocks(parts, self.window, self.field)

    @functools.cached_property
    def _count(self) -> int:
        if self.builder.info.splits:
            return self.builder.info.splits[self.split].num_examples
        return sum(1 for _ in self._read([]))

    def __len__(self) -> int:
        return self._count

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See `source.Source`."""
        if self._blocks is not None:
            yield from self.records.chunks(names, self.where)
            return
        for batch in self._read(names).batch(CHUNK).prefetch(1):
            yield {name: values.numpy() for name, values in batch.items()}

    def where(self, index: int) -> str:
        """See `source.Source`."""
        if self._blocks is None:
            return f"{self.builder.info.full_name}, {self.split}, example {index}"
        return self._blocks.where(index)

    def fingerprint(self) -> str:
        """See `source.Source`."""
        files = [] if self._blocks is None else list(dict.fromkeys(self._blocks.paths))
        return f"{self.builder.info.full_name} {self.split} {len(self)} {source.of_files(files)}"

    def resized(self, sizes: Mapping[str, Resize]) -> "CatalogueSplit":
        """See `source.Source`."""
        return dataclasses.replace(self, sizes=sizes)

    def _read(self, names: Sequence[str]) -> tf.data.Dataset:
        """Examples in order as TFDS gives them, features by name."""
        decoders = tfds.decode.PartialDecoding(feature_paths.nested(dict.fromkeys(names, True))) if names else None
        read_config = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)
        examples = self.builder.as_dataset(split=self.split, decoders=decoders, read_config=read_config)
        return examples.map(functools.partial(self._chosen, names)) if names else examples

    def _chosen(self, names: Sequence[str], example: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        flat = feature_paths.flat(example)
        return {
            name: pictures.resized(flat[name], self.sizes[name]) if name in self.sizes else flat[name] for name in names
        }

    def _decode(self, serialized: tf.Tensor, indices: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
        del indices
        connectors = {name: connector for name, connector in self._connectors.items() if name in names}
        stored = {name: connector.get_serialized_info() for name, connector in connectors.items()}
        fixed = {name: info for name, info in stored.items() if _has_fixed_length(info)}
        # A batch is parsed at once, which is several times as fast as one example after another.
        spec = {name: tf.io.FixedLenFeature(info.shape, _stored_as(info)) for name, info in fixed.items()}
        parsed = tf.io.parse_example(serialized, spec) if spec else {}
        decoded = {
            name: self._decoded(name, tf.cast(values, fixed[name].tf_dtype) if values.dtype != tf.string else values)
            for name, values in parsed.items()
        }
        others = [name for name in names if name not in fixed]
        if others:
            wanted = tfds.features.FeaturesDict(feature_paths.nested({name: connectors[name] for name in others}))
            decoded |= record_files.in_batches(
                lambda record: self._chosen(others, wanted.deserialize_example(record)),
                serialized,
                {name: self.features[name] for name in others},
            )
        return {name: tf.ensure_shape(decoded[name], (None, *self.features[name].shape)) for name in names}

    def _decoded(self, name: str, values: tf.Tensor) -> tf.Tensor:
        """(examples, ...) values as they are stored, as the feature has them."""
        connector, size = self._connectors[name], self.sizes.get(name)
        if size is None:
            return connector.decode_batch_example(values)

        def one(value: tf.Tensor) -> dict[str, tf.Tensor]:
            return {name: pictures.resized(connector.decode_example(value), size)}

        return record_files.in_batches(one, values, {name: self.features[name]})[name]

    @functools.cached_property
    def _connectors(self) -> dict[str, tfds.features.FeatureConnector]:
        # A prepared directory gives them in another order in every process.
        return dict(sorted(feature_paths.flat(self.builder.info.features).items()))


def open_splits(config: SourceConfig, field: str, trust: Trust = NOBODY) -> dict[str, CatalogueSplit]:
    """The splits of `config.splits`, TFDS's way; by default `train`, and `validation` or `test` to validate on.

    Args:
      config: the source.
      field: the configuration's key of the source.
      trust: whose features a prepared folder may name, besides TFDS's own.

    Raises:
      UntrustedError: a prepared folder names a feature of other code.
      ConfigError: there is no such dataset or split, or it is not stored as TFRecords.
      NotPreparedError: it is not prepared.
    """
    if config.options:
        raise unknown(f"{field}.options", config.options, "option", (), name=next(iter(config.options)))
    builder = _builder(config, field, trust)
    there = list(builder.info.splits)
    if there and builder.info.file_format is not tfds.core.FileFormat.TFRECORD:
        reason = f"is stored as {builder.info.file_format.value}; only TFRecords are read, prepare it with 'tfrecord'"
        raise ConfigError(f"{field}.{'name' if config.path is None else 'path'}", config.path or config.name, reason)
    given = {name: "+".join(parts) for name, parts in config.splits.items()}
    wanted = given or source.splits_by_name(lambda name: name in there or not there, _MEANT_TO_VALIDATE)
    opened = {
        name: CatalogueSplit(builder, split, f"{field}.splits.{name}", config.window) for name, split in wanted.items()
    }
    for name, split in opened.items():
        try:
            if there:
                builder.info.splits[split.split]
            else:
                builder.as_dataset(split=split.split)
        except AssertionError as error:
            raise NotPreparedError(
                f"{field}.name", config.name, f"is not prepared in {builder.data_path.parent}"
            ) from error
        except (KeyError, ValueError) as error:
            allowed = f"is no split: {first_line(error)}; there are {', '.join(there) or 'none'}"
            raise ConfigError(f"{field}.splits.{name}", split.split, allowed) from error
    return opened


def prepare(config: DatasetConfig, trust: Trust = NOBODY) -> None:
    """Downloads and prepares every dataset of the catalogue that the configuration names, unless it is prepared.

    Of several processes that start at once one prepares and the others wait; TFDS shows the progress.

    Raises:
      ConfigError: it cannot be downloaded or prepared; nothing half-prepared is left under its name.
    """
    for field, each in configuration.parts(config).items():
        if configuration.made_of(each.name) is None:
            continue
        builder = _builder(each, field, trust)
        try:
            with _alone(pathlib.Path(builder.data_path).parent.parent, each.name):
                if not _builder(each, field, trust).is_prepared():
                    builder.download_and_prepare(file_format="tfrecord")
        except Exception as error:  # the builder's own code
            raise ConfigError(f"{field}.name", each.name, f"cannot be prepared: {first_line(error)}") from error


@contextlib.contextmanager
def _alone(folder: pathlib.Path, name: str) -> Iterator[None]:
    """Admits one process of this machine at a time to this context for a folder; the others say that they wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".preparing", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that prepares data in {folder} ({name})", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _builder(config: SourceConfig, field: str, trust: Trust) -> tfds.core.DatasetBuilder:
    at, value = ("path", config.path) if configuration.made_of(config.name) is None else ("name", config.name)
    with feature_classes.only_trusted(trust, f"{field}.{at}", value):
        return _found(config, field)


def _found(config: SourceConfig, field: str) -> tfds.core.DatasetBuilder:
    name = configuration.made_of(config.name)
    if name is None:
        if not os.path.exists(config.path):
            raise ConfigError(f"{field}.path", config.path, "does not exist")
        try:
            return tfds.builder_from_directory(config.path)
        except ConfigError:
            raise
        except Exception as error:  # of TFDS's, of json and of protobuf
            reason = f"is no directory that TFDS prepared (with dataset_info.json): {first_line(error)}"
            raise ConfigError(f"{field}.path", config.path, reason) from error
    try:
        return tfds.builder(name, data_dir=config.data_dir)
    except ConfigError:
        raise
    except tfds.core.DatasetNotFoundError as error:
        raise unknown(
            f"{field}.name", config.name, "dataset of the TFDS catalogue", tfds.list_builders(), name=name
        ) from error
    except Exception as error:  # the builder's own code
        raise ConfigError(f"{field}.name", config.name, f"cannot be used: {first_line(error)}") from error


def _has_fixed_length(info: Any) -> bool:
    return isinstance(info, tfds.features.TensorInfo) and None not in info.shape and not info.sequence_rank


def _stored_as(info: tfds.features.TensorInfo) -> tf.DType:
    """The type of a `tf.train.Example` that TFDS keeps a tensor in."""
    if info.tf_dtype == tf.string:
        return tf.string
    return tf.float32 if info.tf_dtype.is_floating else tf.int64
