"""Words for what serialized records hold, for errors."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
from google.protobuf.message import DecodeError

from input_pipelines.sources import stored_features
from input_pipelines.sources.stored_features import FeatureOptions

_KINDS = {"bytes_list": "string", "float_list": "float32", "int64_list": "int64"}
_NOTHING = "nothing that can be read"


def contents(record: bytes | None) -> str:
    """Returns the features of a record, in words."""
    try:
        features = tf.train.Example.FromString(record or b"").features.feature
    except DecodeError:
        return _NOTHING
    return sequences(record) or _features(features) or _NOTHING


def sequences(record: bytes | None) -> str | None:
    """Returns what a `tf.train.SequenceExample` holds, in words; None for any other record.

    As an Example it would have its context alone, without a word about its lists.
    """
    try:
        found = tf.train.SequenceExample.FromString(record or b"")
    except DecodeError:
        return None
    lists = found.feature_lists.feature_list
    if not lists:
        return None
    shown = ", ".join(f"{name!r} ({len(each.feature)} steps)" for name, each in sorted(lists.items()))
    context = _features(found.context.feature)
    return f"a tf.train.SequenceExample with the lists {shown}" + (f" and the context {context}" if context else "")


def fault(record: bytes, described: Mapping[str, FeatureOptions], names: Sequence[str]) -> str | None:
    """Returns why a record is not as described, by its first feature of `names` that is not; None where it is."""
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return None
    if found := sequences(record):
        return f"is {found}; only tf.train.Examples are read"
    for name in names:
        kind = features[name].WhichOneof("kind") if name in features else None
        values = () if kind is None else getattr(features[name], kind).value
        if reason := stored_features.fault(described[name], None if kind is None else _KINDS[kind], values):
            there = f"; the record holds {_features(features) or 'nothing'}" if name not in features else ""
            return f"feature {name!r} {reason}{there}"
    return None


def _features(features: Mapping[str, tf.train.Feature]) -> str:
    shown = []
    for name, feature in sorted(features.items()):
        kind = feature.WhichOneof("kind")
        count = 0 if kind is None else len(getattr(feature, kind).value)
        shown.append(f"{name!r} ({count} {_KINDS.get(kind, 'values')})")
    return ", ".join(shown)
