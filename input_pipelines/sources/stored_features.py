"""Descriptions of the features of `tf.train.Example`s, and how their values are read."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from input_pipelines.preparation.picture_operations import Resize
from input_pipelines.preparation.values import as_held
from input_pipelines.sources import pictures, source
from input_pipelines.sources.encoded_pictures import PictureOptions
from trainer.common import schema
from trainer.common.errors import ConfigError
from trainer.common.schema import setting

_STORED = ("float32", "int64", "string")
_DTYPES = (*_STORED, "uint8", "uint16", "int32", "float64", "bool")
_PICTURES = ("uint8", "uint16")
_CAN_BE_ABSENT = (*_STORED, "float64")  # the others have no value that stands for "absent"
_HAVE_CLASSES = ("int64", "string")


def _classes(value: Any, field: str) -> int | list[Any]:
    if isinstance(value, list | tuple) and value:
        return schema.sequence(schema.scalar)(value, field)
    try:
        return schema.integer(1)(value, field)
    except ConfigError as error:
        raise ConfigError(field, value, "must be how many classes there are, or a list of them") from error


@dataclasses.dataclass(frozen=True)
class FeatureOptions(PictureOptions):
    """A feature of an example.

    `encoding` is "image" for an encoded picture (`orientation` and `first_frame` as in folders of pictures; `dtype` is
    "uint8", or "uint16" for 16 bits) and "raw" for the bytes of an array of `dtype`; a side of a picture may be -1
    where it varies. An `optional` feature may be absent or an empty list: NaN, no text, or a missing label.

    Lists of varying length: with `pad`, one of up to as many values as `shape` has is filled up with that value. With
    `classes`, how many there are or a list of them, it becomes a vector of a 1 for each class in the list and 0 for
    the others; an absent or empty list is no class, or a missing label where it is `optional`.
    """

    dtype: str = setting(schema.choice("dtype", _DTYPES))
    shape: list[int] = setting(schema.sequence(schema.integer(-1)), [])
    encoding: str | None = setting(schema.optional(schema.choice("encoding", ("image", "raw"))), None)
    optional: bool = setting(schema.boolean, False)
    pad: Any = setting(schema.optional(schema.scalar), None)
    classes: int | list[Any] | None = setting(schema.optional(_classes), None)

    @property
    def stored(self) -> str:
        """The type of a `tf.train.Example` in which its values are."""
        if self.encoding is not None:
            return "string"
        return {"float64": "float32", "int32": "int64", "bool": "int64"}.get(self.dtype, self.dtype)

    @property
    def size(self) -> int:
        """The number of its values, at most where it is padded."""
        return math.prod(self.shape)

    @property
    def names(self) -> list[Any]:
        """Its classes."""
        return list(range(self.classes)) if isinstance(self.classes, int) else self.classes or []

    def check(self, field: str, given: Any) -> None:
        """Raises ConfigError for options that do not go together."""
        plain = self.encoding is None
        if plain and self.dtype in _PICTURES:
            raise ConfigError(f"{field}.encoding", ConfigError.ABSENT, f"is missing for {self.dtype}: 'image' or 'raw'")
        is_picture = self.dtype in _PICTURES and len(self.shape) == 3 and self.shape[2] in (1, 3, 4)
        if self.encoding == "image" and not is_picture:
            raise ConfigError(field, given, "pictures are uint8 or uint16 of shape [height, width, 1, 3 or 4]")
        if self.encoding != "image" and (self.first_frame or not self.orientation):
            raise ConfigError(field, given, "has options of pictures; they are for encoding 'image'")
        if self.encoding != "image" and any(length < 1 for length in self.shape):
            reason = "must be known; -1 is for pictures, and 'pad' or 'classes' for lists of varying length"
            raise ConfigError(f"{field}.shape", self.shape, reason)
        if self.encoding == "raw" and self.dtype == "string":
            raise ConfigError(f"{field}.encoding", "raw", "is for numbers; text is stored as it is")
        if self.optional and (not plain or self.dtype not in _CAN_BE_ABSENT):
            raise ConfigError(f"{field}.optional", True, f"is for {', '.join(_CAN_BE_ABSENT)} without encoding")
        if self.pad is not None and (not plain or not self.shape):
            raise ConfigError(f"{field}.pad", self.pad, "is for lists without encoding; 'shape' says how long at most")
        if self.pad is not None:
            _held(self.pad, self.dtype, f"{field}.pad")
        if self.classes is None:
            return
        if self.dtype not in _HAVE_CLASSES or not plain or self.shape or self.pad is not None:
            reason = f"is for lists of {' or '.join(_HAVE_CLASSES)} without encoding, shape and pad"
            raise ConfigError(f"{field}.classes", self.classes, reason)
        held = [_held(name, self.dtype, f"{field}.classes") for name in self.names]
        if len(set(held)) < len(held):
            raise ConfigError(f"{field}.classes", self.classes, "holds a class twice")


def feature_options(value: Any, field: str) -> dict[str, FeatureOptions]:
    """Returns feature → how it is stored; raises ConfigError for what is no such description."""
    if not isinstance(value, dict) or not value:
        raise ConfigError(field, value, "must be a dictionary from features to how they are stored")
    described = {}
    for name, each in value.items():
        at = f"{field}.{name}"
        described[name] = schema.record(FeatureOptions)({"dtype": each} if isinstance(each, str) else each, at)
        described[name].check(at, each)
    return described


def spec(each: FeatureOptions) -> tf.TensorSpec:
    """The tensor of one example; a vector of classes holds real numbers, so that it can be NaN, which is missing."""
    if each.classes is not None:
        return tf.TensorSpec([len(each.names)], keras.config.floatx())
    return tf.TensorSpec([None if length == -1 else length for length in each.shape], each.dtype)


def parse(serialized: tf.Tensor, described: Mapping[str, FeatureOptions]) -> dict[str, Any]:
    """Returns feature → what (examples,) records hold: tensors, or ragged ones of lists of varying length."""
    kinds = {
        name: tf.io.RaggedFeature(each.stored, row_splits_dtype=tf.int64)
        if _varies(each)
        else tf.io.FixedLenFeature([] if each.encoding else each.shape, each.stored)
        for name, each in described.items()
    }
    return tf.io.parse_example(serialized, kinds)


def value(name: str, each: FeatureOptions, parsed: Any, size: Resize | None, is_target: bool) -> tf.Tensor:
    """The feature of (examples, ...), from what `parse` gives; pictures at a size of their own where there is one."""
    if each.encoding == "image":
        return pictures.decode(parsed, spec(each), size, each, is_target)
    if each.encoding == "raw":
        expected = tf.as_dtype(each.dtype).size * each.size
        lengths = tf.strings.length(parsed)
        wrong = tf.not_equal(lengths, expected)
        with _refused(wrong, f"feature {name!r} must have {expected} bytes and has", lengths):
            return tf.reshape(tf.io.decode_raw(parsed, each.dtype), [-1, *each.shape])
    if each.classes is not None:
        return _multi_hot(name, each, parsed)
    values = _filled(name, each, parsed) if _varies(each) else parsed
    return values if values.dtype.name == each.dtype else tf.cast(values, each.dtype)


def fault(each: FeatureOptions, kind: str | None, values: Sequence[Any]) -> str | None:
    """Returns why a record's values, of a type ("int64") or absent (None), are not as described; None where they are.

    What is encoded is not looked into.
    """
    count, takes_empty = len(values), each.optional or each.pad is not None or each.classes is not None
    if kind is None and not takes_empty:
        return "is missing; 'optional' features may be"
    if kind is not None and kind != each.stored:
        return f"holds {kind}, not {each.stored}"
    if each.classes is not None:
        held = [_held(name, each.dtype) for name in each.names]
        known = {name.encode() if isinstance(name, str) else name for name in held}
        unknown = [value for value in values if value not in known]
        return f"holds {_shown(unknown[0])}, which is none of its classes" if unknown else None
    if count == 0 and takes_empty:
        return None
    if each.pad is not None and not _fits(count, each):
        return f"holds {count} values, which shape {each.shape} does not"
    if each.pad is None and count != (expected := 1 if each.encoding else each.size):
        if not count:
            return "is an empty list, which only 'optional' features may be"
        return f"holds {count} values, not {expected}; for lists of varying length there are 'pad' and 'classes'"
    return None


def _varies(each: FeatureOptions) -> bool:
    return each.optional or each.pad is not None or each.classes is not None


def _fits(count: Any, each: FeatureOptions) -> Any:
    return (count <= each.size) & (count % math.prod(each.shape[1:]) == 0)


def _held(given: Any, dtype: str, field: str = "") -> Any:
    try:
        return as_held(given, tf.as_dtype(dtype))
    except ValueError as error:
        raise ConfigError(field, given, f"must be a value that {dtype} holds") from error


def _shown(given: Any) -> str:
    return repr(given.decode(errors="replace") if isinstance(given, bytes) else given)


def _absent(each: FeatureOptions) -> tf.Tensor:
    return tf.constant({"float32": np.nan, "int64": source.ABSENT_INTEGER, "string": b""}[each.stored], each.stored)


def _filled(name: str, each: FeatureOptions, lists: tf.RaggedTensor) -> tf.Tensor:
    """(examples, *shape): lists filled up, and those that are empty with what stands for an absent value."""
    lengths = lists.row_lengths()
    empty = tf.equal(lengths, 0)
    padded = each.pad is not None
    wrong = tf.logical_not(_fits(lengths, each) if padded else tf.logical_or(empty, tf.equal(lengths, each.size)))
    fill = tf.cast(tf.constant(_held(each.pad, each.dtype), each.dtype), each.stored) if padded else _absent(each)
    with _refused(wrong, f"feature {name!r} must hold {'at most ' * padded}{each.size} values and holds", lengths):
        values = lists.to_tensor(fill, shape=[None, each.size])
    if each.optional:
        values = tf.where(empty[:, tf.newaxis], _absent(each), values)
    return tf.reshape(values, [-1, *each.shape])


def _multi_hot(name: str, each: FeatureOptions, lists: tf.RaggedTensor) -> tf.Tensor:
    """(examples, classes): 1 for each class in a list, 0 for others; NaN for an empty list of an optional feature."""
    count, held = len(each.names), tf.constant([_held(one, each.dtype) for one in each.names], each.dtype)
    if isinstance(each.classes, int):
        places, wrong = lists.values, tf.logical_or(lists.values < 0, lists.values >= count)
    else:
        equal = tf.equal(lists.values[:, tf.newaxis], held)
        places, wrong = tf.argmax(equal, axis=1), tf.logical_not(tf.reduce_any(equal, axis=1))
    with _refused(wrong, f"feature {name!r} holds what is none of its classes:", lists.values):
        places = tf.stack([lists.value_rowids(), places], axis=1)
    shape = tf.stack([lists.nrows(), count])
    counts = tf.scatter_nd(places, tf.ones(tf.shape(places)[:1], keras.config.floatx()), shape)
    hot = tf.ensure_shape(tf.minimum(counts, 1), (None, count))
    if not each.optional:
        return hot
    return tf.where(tf.equal(lists.row_lengths(), 0)[:, tf.newaxis], tf.constant(np.nan, hot.dtype), hot)


def _refused(wrong: tf.Tensor, words: str, values: tf.Tensor) -> Any:
    """A context whose operations fail where something is wrong, naming its values."""
    failing = tf.debugging.Assert(tf.logical_not(tf.reduce_any(wrong)), [words, tf.boolean_mask(values, wrong)])
    return tf.control_dependencies([failing])
