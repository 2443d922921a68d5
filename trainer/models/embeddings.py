"""Categories as vectors: one table for all columns of a categorical input."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


class CategoricalEmbedding(keras.layers.Layer):
    """Every column's category as `units` numbers: (examples, columns) whole numbers → (examples, columns · units).

    Args:
      sizes: number of categories of each column, from 0.
      units: numbers per column.
    """

    def __init__(self, sizes: Sequence[int], units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.sizes, self.units = tuple(sizes), units
        self.starts = np.cumsum(self.sizes) - self.sizes

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the table."""
        self.table = self.add_weight(
            shape=(sum(self.sizes), self.units), initializer=keras.initializers.RandomNormal(stddev=0.05), name="table"
        )

    def call(self, inputs: Any) -> Any:
        """Looks every column up in its part of the table."""
        columns = keras.ops.reshape(inputs, (-1, len(self.sizes)))
        rows = keras.ops.take(self.table, keras.ops.cast(columns, "int64") + self.starts, axis=0)
        return keras.ops.reshape(rows, (-1, len(self.sizes) * self.units))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """(examples, columns · units)."""
        return (input_shape[0], len(self.sizes) * self.units)


def tables(model: keras.Model) -> list[keras.Variable]:
    """The tables of a model's embeddings, of any kind."""
    found = []
    for layer in model._flatten_layers():
        if isinstance(layer, CategoricalEmbedding):
            found.append(layer.table)
        elif isinstance(layer, keras.layers.Embedding):
            found.append(layer.embeddings)
    return found
