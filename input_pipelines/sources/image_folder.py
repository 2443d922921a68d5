"""Folders of pictures, as `tfds.folder_dataset.ImageFolder` has them: `<path>/<split>/<class>/<picture>`.

Features: `image` (its sides vary unless `options.shape` says), `label` (the class's place among the sorted names of the
training split) and `file` (the path below the split's folder). Folders within that of a class belong to the class.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from input_pipelines.configuration import TRAIN, SourceConfig
from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.sources import encoded_pictures, folders, pictures, source
from input_pipelines.sources.encoded_pictures import PictureOptions
from input_pipelines.sources.source import Records
from trainer.common import schema
from trainer.common.errors import ConfigError, unknown
from trainer.common.schema import setting

_MIXED_FILES = 256  # read ahead together; their order is that of a permutation of all files anyway


@dataclasses.dataclass(frozen=True)
class Options(PictureOptions):
    """The pictures' (height, width, channels) where all have the same; otherwise the channels alone count.

    `orientation`: whether pictures are turned as their EXIF data say. `first_frame`: whether of a file with several
    pictures, such as an animation, the first is read; otherwise the file is refused.
    """

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
      options: how pictures are read.
      indices: whether those with a palette give its indices (see `encoded_pictures.plain`).
      notes: lines for the user: files that are not read.
      skipped: how many pictures were left out because they do not decode.
      size: to bring the pictures to.
    """

    root: str
    files: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    spec: tf.TensorSpec
    options: Options
    indices: bool = False
    notes: tuple[str, ...] = ()
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
        decodable = [pictures.decodes(data, self.spec.shape[-1], self.options) for data in contents]
        files = tuple(file for file, decodes in zip(self.files, decodable, strict=True) if decodes)
        labels = self.labels[np.array(decodable)]
        return dataclasses.replace(self, files=files, labels=labels, skipped=decodable.count(False))

    def _decode(self, files: tf.Tensor, indices: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
        found: dict[str, tf.Tensor] = {"label": tf.gather(tf.constant(self.labels), indices), "file": files}
        if "image" in names:
            paths = tf.strings.join([self.root, files], separator="/")
            encoded = tf.map_fn(tf.io.read_file, paths)
            found["image"] = pictures.decode(encoded, self.spec, self.size, self.options, self.indices)
        return {name: found[name] for name in names}


def open_splits(config: SourceConfig, field: str) -> dict[str, Folder]:
    """The splits of `config.splits`, each a folder below `path`; by default `train` and the first to validate on.

    Raises:
      ConfigError: a folder that is missing or holds no picture, or a class of which the training split has no picture.
    """
    options = schema.record(Options)(config.options, f"{field}.options")
    if not os.path.isdir(config.path):
        raise ConfigError(f"{field}.path", config.path, "must be a folder: <path>/<split>/<class>/<picture>")
    wanted = _wanted(config, field)
    training = TRAIN if TRAIN in wanted else next(iter(wanted))
    names = folders.subfolders(os.path.join(config.path, wanted[training]))
    spec = tf.TensorSpec(options.shape or (None, None, options.channels), tf.uint8)
    opened = {}
    unread = () if config.splits else folders.unread(config.path, wanted.values(), field)
    for name, folder in wanted.items():
        split = _open(os.path.join(config.path, folder), names, spec, options, f"{field}.splits.{name}")
        opened[name] = split.without_undecodable() if config.undecodable == "skip" else split
    _check_classes(opened[training], f"{field}.splits.{training}")
    indices = "image" in pictures.make_targets(config, tuple(opened[training].features))
    spec = tf.TensorSpec(spec.shape, pictures.channel_type(opened[training].where(0)))
    opened[training] = dataclasses.replace(opened[training], notes=(*unread, *opened[training].notes))
    return {name: dataclasses.replace(split, spec=spec, indices=indices) for name, split in opened.items()}


def _wanted(config: SourceConfig, field: str) -> dict[str, str]:
    """Split → its folder."""
    there = folders.subfolders(config.path)
    for name, given in config.splits.items():
        if len(given) != 1:
            raise ConfigError(f"{field}.splits.{name}", given, "must name one folder")
    given = {name: each[0] for name, each in config.splits.items()}
    wanted = given or source.splits_by_name(lambda name: name in there)
    for name, folder in wanted.items():
        if folder not in there:
            raise unknown(f"{field}.splits.{name}", folder, f"folder in {config.path}", there)
    return wanted


def _open(root: str, names: Sequence[str], spec: tf.TensorSpec, options: Options, field: str) -> Folder:
    for name in folders.subfolders(root):
        if name not in names:
            raise unknown(field, root, "class (the training split does not have it)", names, name=name)
    inside: dict[str, list[str]] = {name: [] for name in names}
    left_out = []
    for path in folders.below(root):
        kind = left_out_as(path)
        if kind is None:
            inside[path.split(os.sep)[0]].append(path)
        else:
            left_out.append((kind, path))
    files = [path for paths in inside.values() for path in sorted(paths)]
    if not files:
        endings = ", ".join(encoded_pictures.ENDINGS)
        there = f"; it holds {folders.in_words(left_out)}" if left_out else ""
        raise ConfigError(field, root, f"holds no <class>/<picture> ({endings}){there}")
    labels = np.repeat(np.arange(len(names)), [len(paths) for paths in inside.values()])
    notes = (f"{field}: left out of {root}: {folders.in_words(left_out)}",) if left_out else ()
    return Folder(root, tuple(files), labels.astype(np.int64), tuple(names), spec, options, notes=notes)


def left_out_as(path: str, *, of_class: bool = True) -> str | None:
    """The reason for which a file of a split is not read; None for a picture, of a class where it must be."""
    if folders.is_hidden(os.path.basename(path)):
        return folders.HIDDEN
    ending = os.path.splitext(path)[1].lower()
    if ending not in encoded_pictures.ENDINGS:
        return f"with the ending {ending}" if ending else "without an ending"
    return None if os.sep in path or not of_class else "outside of a folder of a class"


def _check_classes(train: Folder, field: str) -> None:
    """Raises ConfigError for a class of which the training split has no picture."""
    for label, name in enumerate(train.names):
        if label in train.labels:
            continue
        why = [note.removeprefix(f"{field}: ") for note in train.notes]
        why += [f"{train.skipped} pictures of the split do not decode"] if train.skipped else []
        reason = f"holds no picture of the class {name!r}; {'; '.join(why) or 'it is empty'}"
        raise ConfigError(field, os.path.join(train.root, name), reason)
