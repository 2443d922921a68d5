"""A model without this project's own layers, so that whoever has Keras can load it."""

import keras

from trainer.models.embeddings import CategoricalEmbedding
from trainer.models.recomputation import Recomputed


def of(model: keras.Model) -> keras.Model:
    """The same model with embedded categories and recomputed segments made of layers of Keras; itself without those.

    The values of its variables are the same, and in the same order. A model of a class of the user's own is returned as
    it is.
    """
    ours = any(isinstance(layer, CategoricalEmbedding | Recomputed) for layer in model._flatten_layers())
    if not ours or not isinstance(model, keras.Function):
        return model
    plain = keras.models.clone_model(model, clone_function=_plain, recursive=True)
    plain.set_weights(model.get_weights())
    return plain


def _plain(layer: keras.layers.Layer) -> keras.layers.Layer:
    if isinstance(layer, CategoricalEmbedding):
        return _embedding(layer)
    if isinstance(layer, Recomputed):
        return keras.Sequential([_plain(each) for each in layer.inner.layers], name=layer.name)
    return type(layer).from_config(layer.get_config())


def _embedding(layer: CategoricalEmbedding) -> keras.Model:
    """A table for all columns: each column's categories lie behind those of the columns before it."""
    columns = keras.Input((len(layer.sizes),), dtype="int64", name=f"{layer.name}_columns")
    rows = columns + keras.ops.convert_to_tensor(layer.starts, dtype="int64")
    table = keras.layers.Embedding(sum(layer.sizes), layer.units, dtype=layer.dtype_policy, name=f"{layer.name}_table")
    side_by_side = keras.layers.Reshape((len(layer.sizes) * layer.units,), name=f"{layer.name}_side_by_side")
    return keras.Model(columns, side_by_side(table(rows)), name=layer.name)


def others(model: keras.Model) -> list[str]:
    """Import paths of the classes that Keras does not have, among the layers of a model: who loads it needs them."""
    classes = {type(layer) for layer in (model, *model._flatten_layers())}
    return sorted(
        f"{each.__module__}:{each.__qualname__}" for each in classes if not each.__module__.startswith("keras.")
    )
