"""Features as a caller gives them who has no files: numbers and text as the source holds them, pictures as bytes.

What is here runs in a graph that leaves this process: it calls no Python and holds no file's name.
"""

import dataclasses
import keyword
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines import configuration
from input_pipelines.configuration import SourceConfig
from input_pipelines.preparation.number_operations import Fill
from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.preparation.preparation import Preparation
from input_pipelines.preparation.vocabulary_operations import Categories
from input_pipelines.registry import TFDS
from input_pipelines.remembered import Remembered
from input_pipelines.sources import pictures, pictures_in_graph, stored_features
from input_pipelines.sources.encoded_pictures import PictureOptions
from input_pipelines.sources.source import ABSENT_INTEGER
from input_pipelines.sources.stored_features import FeatureOptions
from trainer.common import schema
from trainer.common.errors import ConfigError

_CHANNELS = (1, 3, 4)
_PICTURES = (tf.uint8, tf.uint16)
_AS_TFDS = PictureOptions(orientation=False, first_frame=True)


@dataclasses.dataclass(frozen=True)
class Picture:
    """The way from an encoded picture to what a source gives.

    Attributes:
      spec: of it, before it is brought to a size.
      size: to bring it to.
      options: how it is read.
      indices: whether of one with a palette the indices count.
    """

    spec: tf.TensorSpec
    size: Resize | None
    options: PictureOptions
    indices: bool


@dataclasses.dataclass(frozen=True)
class RawFeature:
    """A feature as a caller gives it.

    Attributes:
      spec: of one example, as it is given: a string where it is an encoded picture.
      picture: how that is decoded; None for what is none.
      can_be_absent: whether what is made of it takes a number that is absent: NaN, or `ABSENT_INTEGER`.
      stored: how a `tf.train.Example` holds it, where the configuration says so.
    """

    spec: tf.TensorSpec
    picture: Picture | None = None
    can_be_absent: bool = False
    stored: FeatureOptions | None = None

    @property
    def absent(self) -> float | int | bytes | None:
        """The value that stands for an absent one; None where none does."""
        if self.picture is not None:
            return None
        if self.spec.dtype == tf.string:
            return b""
        if not self.can_be_absent:
            return None
        return np.nan if self.spec.dtype.is_floating else ABSENT_INTEGER if self.spec.dtype == tf.int64 else None


def of(config: SourceConfig, field: str, prepare: Preparation, source: Remembered) -> dict[str, RawFeature]:
    """The features that a preparation needs, by name.

    Args:
      config: the source.
      field: the configuration's key of it.
      prepare: what is made of them.
      source: what the run keeps of its training split.

    Raises:
      ConfigError: one of them cannot be given without the source's files.
    """
    kind, stored = configuration.kind_of(config.name), {}
    if kind == "tfrecord":
        stored = stored_features.feature_options(config.options["features"], f"{field}.options.features")
    encoded, found = _encoded(config, kind, source), {}
    for name in prepare.features:
        if name not in encoded:
            found[name] = RawFeature(prepare.source[name], None, _takes_absent(prepare, name), stored.get(name))
            continue
        if name in source.optional:
            raise ConfigError(f"{field}.inputs", name, "is a picture that rows may lack, which an export cannot take")
        indices = kind != TFDS and name in pictures.make_targets(config, tuple(source.features))
        picture = Picture(source.unsized[name], source.sizes.get(name), encoded[name], indices)
        found[name] = RawFeature(tf.TensorSpec((), tf.string), picture, stored=stored.get(name))
    return found


def _takes_absent(prepare: Preparation, name: str) -> bool:
    """Returns True where all inputs that are made of a feature put something in the place of an absent number."""
    chains = [chain for chain in prepare.inputs.values() if name in chain.features]
    return all(any(isinstance(each, Fill | Categories) for each in chain.operations) for chain in chains)


def _encoded(config: SourceConfig, kind: str, source: Remembered) -> dict[str, PictureOptions]:
    """The features that are pictures in files or records, with how they are read."""
    if kind == TFDS:
        return {
            name: _AS_TFDS
            for name, spec in source.unsized.items()
            if spec.dtype in _PICTURES and spec.shape.rank == 3 and spec.shape[-1] in _CHANNELS
        }
    if kind == "tfrecord":
        options = stored_features.feature_options(config.options["features"], "")
        return {name: each for name, each in options.items() if each.encoding == "image"}
    if kind not in ("image_folder", "table_of_images"):
        return {}
    own = {name: config.options[name] for name in ("orientation", "first_frame") if name in config.options}
    options = schema.record(PictureOptions)(own, "")
    names = ["image", *config.options.get("masks", [])]
    return dict.fromkeys(names, options)


def decoded(features: Mapping[str, RawFeature], raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The features of a batch as the source gives them, by name; in a graph."""
    found = {}
    for name, feature in features.items():
        values, own = raw[name], feature.picture
        if own is not None:
            values = pictures_in_graph.decode(values, own.spec, own.size, own.options, own.indices)
        found[name] = values
    return found


def parsed(features: Mapping[str, RawFeature], serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """The features in (examples,) serialized `tf.train.Example`s, as `decoded` takes them; in a graph.

    Real numbers are stored as float32 there. What may be absent (`RawFeature.absent`) need not be in an example.
    """
    described = {name: each.stored for name, each in features.items() if each.stored is not None}
    found: dict[str, Any] = {}
    if described:
        of_records = stored_features.parse(serialized, described)
        for name, options in described.items():
            is_picture = options.encoding == "image"
            own = of_records[name]
            found[name] = own if is_picture else stored_features.value(name, options, own, None, False)
    others = {name: _fixed(each) for name, each in features.items() if each.stored is None}
    if others:
        values = tf.io.parse_example(serialized, others)
        found |= {name: _as(each, features[name].spec.dtype) for name, each in values.items()}
    return found


def can_be_parsed(features: Mapping[str, RawFeature]) -> bool:
    """Returns whether `tf.train.Example`s can hold the features: all lengths are known."""
    return all(each.spec.shape.is_fully_defined() for each in features.values())


def _fixed(feature: RawFeature) -> tf.io.FixedLenFeature:
    dtype, shape, absent = feature.spec.dtype, feature.spec.shape, feature.absent
    kind = tf.string if dtype == tf.string else tf.float32 if dtype.is_floating else tf.int64
    default = None if absent is None else np.full(shape, absent, kind.as_numpy_dtype)
    return tf.io.FixedLenFeature(shape, kind, default)


def _as(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return values if values.dtype == dtype else tf.cast(values, dtype)


def of_inputs(spec: Any) -> dict[str, RawFeature]:
    """Those of data without a preparation, whose inputs are taken as they are: `inputs` where there is but one."""
    named = spec if isinstance(spec, Mapping) else {"inputs": spec}
    return {name: RawFeature(leaf) for name, leaf in named.items()}


def names(features: Sequence[str]) -> dict[str, str]:
    """Feature → the name that a signature has for it: letters, digits and `_`, all different."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for feature in features:
        own = re.sub(r"[^0-9A-Za-z_]", "_", feature).strip("_")
        # Functions of TensorFlow have arguments of these names, one of them for themselves.
        is_name = own[:1].isalpha() and own != "self" and not keyword.iskeyword(own)
        own = own if is_name else f"feature_{own}".rstrip("_")
        number, plain = 2, own
        while own in taken:
            own, number = f"{plain}_{number}", number + 1
        found[feature] = own
        taken.add(own)
    return found
