"""Some examples of a run, and what the trainer computes of them, for an export to be compared with."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines import configuration
from input_pipelines.configuration import VALIDATION, SourceConfig
from input_pipelines.raw_features import RawFeature
from input_pipelines.rows import encoded, opening
from input_pipelines.sources import pictures
from trainer.common.errors import ConfigError
from trainer.common.trust import Trust
from trainer.export import formats, made_up
from trainer.export.trained import Trained
from trainer.run.restored import Restored

Arrays = Mapping[str, np.ndarray]
_COUNT = 8


@dataclasses.dataclass(frozen=True)
class Examples:
    """Some examples as arrays by name, examples first; text as bytes objects.

    Attributes:
      raw: features as a caller gives them.
      prepared: the model's inputs, which the run's own preparation has made of them.
      heads: what the run's model gives for these.
      losses: what its losses make of that.
      origin: where they are from, in words.
    """

    raw: Arrays
    prepared: Arrays
    heads: Arrays
    losses: Arrays
    origin: str

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(next(iter(self.prepared.values())))

    def of(self, inputs: str, outputs: str) -> tuple[Arrays, Arrays]:
        """Inputs and outputs of these kinds, as `formats.Format` has them."""
        return (
            self.raw if inputs == formats.RAW else self.prepared,
            self.heads if outputs == formats.HEADS else self.losses,
        )


def of(trained: Trained, restored: Restored, field: str, source: SourceConfig, trust: Trust) -> Examples:
    """The first examples of the validation split (of a CSV file: of the file, which is not read to its end).

    They are made up where the files cannot be read.

    Args:
      trained: the run, whose own preparation, with all that it does in Python, makes inputs of them.
      restored: the same.
      field: the configuration's key of the source.
      source: the source.
      trust: whose code may be called where the data name it.
    """
    with tf.device("CPU:0"):  # where exports are tried
        if configuration.is_function(source.name):
            first = restored.kept.data.splits[VALIDATION].first(_COUNT)["inputs"]
            raw, origin = (first if isinstance(first, dict) else {"inputs": first}), "of the validation split"
        else:
            try:
                raw, origin = _read(trained, restored, field, source, trust), "of the run's data"
            except (ConfigError, OSError):  # moved, removed, on another machine
                raw, origin = made_up.examples(trained, _COUNT), "made up"
        features = {name: _of_source(trained.features[name], values) for name, values in raw.items()}
        prepared = tf.nest.map_structure(tf.convert_to_tensor, features)
        if trained.preparation is not None:
            inputs = trained.preparation.of_arrays(features)["inputs"]
            prepared = inputs if isinstance(inputs, dict) else {"inputs": inputs}
        heads = _in_graph(trained.call, prepared)
        losses = trained.by_loss(heads)
    return Examples(raw, *(_arrays(each) for each in (prepared, heads, losses)), origin)


def _read(
    trained: Trained, restored: Restored, field: str, source: SourceConfig, trust: Trust
) -> dict[str, np.ndarray]:
    if configuration.kind_of(source.name) == "csv":
        opened = opening.of_path(source, field, _file(source), restored.kept)
    else:
        opened = opening.of_split(source, field, VALIDATION, restored.kept, trust)
    names = [name for name, each in trained.features.items() if each.picture is None]
    found: dict[str, np.ndarray] = {}
    if names:
        chunk = next(iter(opened.rows.chunks(names, ()))).features
        found = {name: values[:_COUNT] for name, values in chunk.items()}
    for name in trained.features.keys() - found.keys():
        stored = encoded.first(opened.rows.source, name, _COUNT)
        found[name] = made_up.pictures_of(trained.features[name].picture, _COUNT) if stored is None else stored
    count = min(map(len, found.values()))
    return {name: found[name][:count].astype(_dtype(each), copy=False) for name, each in trained.features.items()}


def _file(source: SourceConfig) -> str:
    """The file of the validation split where the configuration names one, else the path of all."""
    named = source.splits.get(VALIDATION, [])
    path = os.path.join(source.path, named[0]) if named else source.path
    return path if os.path.exists(path) else source.path


def _of_source(feature: RawFeature, values: np.ndarray) -> np.ndarray:
    """Values as the source gives them: pictures decoded as in training."""
    if feature.picture is None:
        return values
    own = feature.picture

    def decode(encoded: tf.Tensor) -> tf.Tensor:
        return pictures.decode(encoded, own.spec, own.size, own.options, own.indices)

    return _in_graph(decode, tf.constant(values)).numpy()


def _in_graph(function: Callable[[Any], Any], arguments: Any) -> Any:
    """Returns what a function gives, computed in a graph, as in an evaluation."""
    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, arguments)
    return tf.function(function, autograph=False).get_concrete_function(specs)(arguments)


def _dtype(feature: RawFeature) -> np.dtype:
    return np.dtype(object) if feature.spec.dtype == tf.string else np.dtype(feature.spec.dtype.as_numpy_dtype)


def _arrays(tensors: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}
