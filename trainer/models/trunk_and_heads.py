"""A trunk of layers that every head starts from, and named heads, each with layers of its own.

How much is shared is the configuration's choice: a head may be one layer straight on the trunk or have private
layers before it; with an empty trunk the heads start from the input and share nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from trainer.common import import_paths
from trainer.common.errors import ConfigError, first_line
from trainer.components import keras_objects
from trainer.config.settings import ModelConfig
from trainer.models import recomputation
from trainer.models.embeddings import CategoricalEmbedding


def build(config: ModelConfig, inputs: Any, categories: Mapping[str, Sequence[int]] | None = None) -> keras.Model:
    """Builds the model; call it in the strategy's scope.

    Args:
      config: the configuration's `model`.
      inputs: anything with `.shape` (batch first) and `.dtype`, or a dictionary of those.
      categories: input name → number of categories of each of its columns, for inputs that are to be embedded.

    Returns:
      A model from inputs to a dictionary of outputs by head.

    Raises:
      ConfigError: a layer that does not exist or does not fit, or a model of the user's own that cannot be used.
    """
    if import_paths.is_path(config.name):
        if config.recompute:
            raise ConfigError(
                "model.recompute",
                True,
                "is for a trunk of layers; a model of your own can use trainer.models.recomputation.Recomputed",
            )
        return _user_model(config)
    source, joined = _joined(config, inputs, categories or {})
    trunk, layers = _stack(joined, config.trunk, "model.trunk", "trunk")
    if config.recompute:
        trunk = recomputation.in_segments(layers, joined)
    outputs = {
        head: _stack(trunk, specs, f"model.heads.{head}", f"head_{head}")[0] for head, specs in config.heads.items()
    }
    try:
        return keras.Model(source, outputs, name="trunk_and_heads")
    except Exception as error:  # two layers of one name, say
        raise ConfigError("model", config.name, first_line(error)) from error


def _joined(config: ModelConfig, inputs: Any, categories: Mapping[str, Sequence[int]]) -> tuple[Any, Any]:
    """The model's symbolic inputs, and what the trunk starts from: vectors and embedded categories side by side."""
    if not isinstance(inputs, Mapping):
        source = _input(config, "inputs", inputs)
        if categories:
            return source, _embedded(config, source, *categories.values())
        is_number = len(source.shape) == 1 and keras.backend.is_float_dtype(source.dtype)
        return source, keras.layers.Reshape((1,))(source) if is_number else source
    sources = {name: _input(config, name, each) for name, each in inputs.items()}
    vectors = []
    for name, source in sources.items():
        if name in categories:
            vectors.append(_embedded(config, source, categories[name]))
        elif len(source.shape) == 2:
            vectors.append(source)
        elif len(source.shape) == 1:
            vectors.append(keras.layers.Reshape((1,))(source))
        else:
            raise ConfigError(
                "model.name",
                config.name,
                f"puts vectors side by side, but input {name!r} has shape {tuple(source.shape[1:])}; give a model of "
                "your own for these inputs",
            )
    return sources, keras.layers.Concatenate(name="inputs_side_by_side")(vectors)


def _input(config: ModelConfig, name: str, like: Any) -> Any:
    try:
        return keras.Input(like.shape[1:], dtype=_name(like.dtype), name=name)
    except ValueError as error:  # a name with "/"
        reason = f"cannot have an input of the name {name!r} ({first_line(error)}); give the dataset's input another"
        raise ConfigError("model.name", config.name, reason) from error


def _embedded(config: ModelConfig, source: Any, sizes: Sequence[int]) -> Any:
    return CategoricalEmbedding(sizes, config.embedding_units, name=f"embedding_{source.name}")(source)


def _stack(
    tensor: Any, specs: Sequence[Mapping[str, Any]], field: str, prefix: str
) -> tuple[Any, list[keras.layers.Layer]]:
    """Applies layers one after another; each is named for where it stands, so that names last from run to run."""
    layers = []
    for index, spec in enumerate(specs):
        at = f"{field}.{index}"
        name, arguments = keras_objects.split(spec, "layer")
        found = keras_objects.find(name, keras.layers, keras.layers.Layer, kind="layer", field=f"{at}.layer")
        default = f"{prefix}_{index}_{keras_objects.snake(name.rpartition(':')[2])}"
        layer = keras_objects.build(found, arguments, field=at, base=keras.layers.Layer, implied={"name": default})
        shape = tuple(tensor.shape)
        try:
            tensor = layer(tensor)
        except import_paths.USER_ERRORS as error:
            raise ConfigError(at, name, f"does not fit an input of shape {shape}: {first_line(error)}") from error
        if not hasattr(tensor, "shape"):
            raise ConfigError(at, name, f"gives a {type(tensor).__name__}; a layer of a trunk or head gives one output")
        layers.append(layer)
    return tensor, layers


def _user_model(config: ModelConfig) -> keras.Model:
    model = import_paths.call(config.name, config.options, field="model.name", arguments_field="model.options")
    if not isinstance(model, keras.Model) or not model.built:
        raise ConfigError("model.name", config.name, f"must return a built keras.Model, not {type(model).__name__}")
    return model


def _name(dtype: Any) -> str:
    return getattr(dtype, "name", str(dtype))
