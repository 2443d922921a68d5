"""Folders of pictures, as `tfds.folder_dataset.ImageFolder` has them: `<path>/<split>/<class>/<picture>`.

Features: `image` (its sides vary unless `options.shape` says), `label` (the class's place among the sorted names of the
training split) and `file` (the path below the split's folder).
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import TRAIN, SourceConfig
from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.sources import pictures, source
from input_pipelines.sources.source import Records
from trainer.common import schema
from trainer.common.errors import ConfigError, unknown
from trainer.common.schema import setting

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_MIXED_FILES = 256  # read ahead together; their order is that of a permutation of all files anyway


@dataclasses.dataclass(frozen=True)
class Options:
    """The pictures' (height, width, channels) where all have the same; otherwise the channels alone count."""

    shape: list[int] | None = setting(schema.optional(schema.sequence(schema.integer(1))), None)
    channels: int = setting(schema.integer(1), 3)


@dataclasses.dataclass(frozen=True)
class Folder:
    """One split (see `source.Source`).

    Attributes:
      root: its folder.
      files: paths of the pictures below it, sorted by class and name.
      labels: (files,) int64.
      names: of the classes.
      spec: of a picture.
      skipped: how many pictures were left out.
      size: to bring the pictures to.
    """

    root: str
    files: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    spec: tf.TensorSpec
    skipped: int = 0
    notes: tuple[str, ...] = ()
    size: Resize | None = None
    optional: frozenset[str] = frozenset()

    @property
    def features(self) -> Mapping[str, tf.TensorSpec]:
        """See `source.Source`."""
        return {
            "image": pictures.sized(self.spec, self.size),
            "label": tf.TensorSpec((), tf.int64),
            "file": tf.TensorSpec((), tf.string),
        }

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """See `source.Source`."""
        return {"label": self.names}

    @property
    def records(self) -> Records:
        """See `source.Source`: a record is a path, a block a single one."""
        paths = tf.constant(self.files)
        sizes = np.ones(len(self.files), np.int64)
        return Records(
            sizes, lambda block: tf.data.Dataset.from_tensors(paths[block]), self._decode, mixed_blocks=_MIXED_FILES
        )

    def __len__(self) -> int:
        return len(self.files)

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """See `source.Source`."""
        return self.records.chunks(names, self.where)

    def where(self, index: int) -> str:
        """See `source.Source`."""
        return os.path.join(self.root, self.files[index])

    def fingerprint(self) -> str:
        """See `source.Source`."""
        contents = source.of_files([os.path.join(self.root, file) for file in self.files])
        # A picture moved to another class is a changed label.
        return f"{source.of_arrays({'file': np.array([file.encode() for file in self.files], object)})} {contents}"

    def resized(self, sizes: Mapping[str, Resize]) -> "Folder":
        """See `source.Source`."""
        return dataclasses.replace(self, size=sizes["image"])

    def without_undecodable(self) -> "Folder":
        """The split without the files that are no pictures."""
        contents = (tf.io.read_file(os.path.join(self.root, file)).numpy() for file in self.files)
        decodable = [pictures.decodes(data, self.spec.shape[-1]) for data in contents]
        files = tuple(file for file, decodes in zip(self.files, decodable, strict=True) if decodes)
        labels = self.labels[np.array(decodable)]
        return dataclasses.replace(self, files=files, labels=labels, skipped=decodable.count(False))

    def _decode(self, files: tf.Tensor, indices: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
        found: dict[str, tf.Tensor] = {"label": tf.gather(tf.constant(self.labels), indices), "file": files}
        if "image" in names:
            paths = tf.strings.join([self.root, files], separator="/")
            encoded = tf.map_fn(tf.io.read_file, paths)
            found["image"] = pictures.decode(encoded, self.spec, self.size)
        return {name: found[name] for name in names}


def open_splits(config: SourceConfig, field: str) -> dict[str, Folder]:
    """The splits of `config.splits`, each a folder below `path`; by default `train` and the first to validate on.

    Raises:
      ConfigError: a folder that is missing or holds no picture, or a class that the training split does not have.
    """
    options = schema.record(Options)(config.options, f"{field}.options")
    if not os.path.isdir(config.path):
        raise ConfigError(f"{field}.path", config.path, "must be a folder: <path>/<split>/<class>/<picture>")
    there = _folders(config.path)
    for name, folders in config.splits.items():
        if len(folders) != 1:
            raise ConfigError(f"{field}.splits.{name}", folders, "must name one folder")
    given = {name: folders[0] for name, folders in config.splits.items()}
    wanted = given or source.splits_by_name(lambda name: name in there)
    for name, folder in wanted.items():
        if folder not in there:
            raise unknown(f"{field}.splits.{name}", folder, f"folder in {config.path}", there)
    names = _folders(os.path.join(config.path, wanted[TRAIN] if TRAIN in wanted else next(iter(wanted.values()))))
    spec = tf.TensorSpec(options.shape or (None, None, options.channels), tf.uint8)
    opened = {}
    for name, folder in wanted.items():
        split = _open(os.path.join(config.path, folder), names, spec, f"{field}.splits.{name}")
        opened[name] = split.without_undecodable() if config.undecodable == "skip" else split
    return opened


def _folders(root: str) -> tuple[str, ...]:
    there = (entry for entry in os.listdir(root) if not entry.startswith("."))
    return tuple(sorted(entry for entry in there if os.path.isdir(os.path.join(root, entry))))


def _open(root: str, names: Sequence[str], spec: tf.TensorSpec, field: str) -> Folder:
    files, labels = [], []
    for name in _folders(root):
        if name not in names:
            raise unknown(field, root, "class (the training split does not have it)", names, name=name)
        inside = [file for file in sorted(os.listdir(os.path.join(root, name))) if file.lower().endswith(_ENDINGS)]
        files += [os.path.join(name, file) for file in inside]
        labels += [names.index(name)] * len(inside)
    if not files:
        raise ConfigError(field, root, f"holds no <class>/<picture> ({', '.join(_ENDINGS)})")
    return Folder(root, tuple(files), np.array(labels, np.int64), tuple(names), spec)
