"""Molecules as vectors of one length, whatever their place, their direction and the order of their atoms."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

_ANGSTROM_PER_BOHR = 0.529177


class CoulombMatrix(keras.layers.Layer):
    """The Coulomb matrix of a molecule, sorted (https://arxiv.org/abs/1109.2618).

    Its entries are ZₐZᵦ / |Rₐ - Rᵦ|, and Zₐ^2.4 / 2 on the diagonal, in atomic units; rows and columns are sorted by
    the rows' norms, largest first. It is symmetric, so only its lower triangle is given.

    Args:
      atoms: the most atoms of a molecule. Places without an atom have charge 0, and their entries are 0.

    Input: (examples, 4 · atoms), the charges, then x, y and z in Å of one atom after another. Output: (examples,
    atoms · (atoms + 1) / 2).
    """

    def __init__(self, atoms: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.atoms = atoms
        rows, columns = np.tril_indices(atoms)
        self._lower = rows * atoms + columns

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Checks the length of the input; raises ValueError where it is another."""
        if input_shape[-1] != 4 * self.atoms:
            raise ValueError(f"takes {4 * self.atoms} numbers for {self.atoms} atoms, not {input_shape[-1]}")

    def call(self, inputs: Any) -> Any:
        """The lower triangles, row by row."""
        ops, atoms = keras.ops, self.atoms
        charges = inputs[:, :atoms]
        places = ops.reshape(inputs[:, atoms:], (-1, atoms, 3)) / _ANGSTROM_PER_BOHR
        differences = places[:, :, None] - places[:, None]
        distances = ops.sqrt(ops.sum(ops.square(differences), axis=-1))
        products = charges[:, :, None] * charges[:, None]
        # Places without an atom are all the same place.
        repulsion = ops.divide_no_nan(products, distances)
        diagonal = ops.eye(atoms, dtype=inputs.dtype)
        own = 0.5 * ops.power(charges, 2.4)
        matrix = repulsion * (1 - diagonal) + own[:, :, None] * diagonal
        order = ops.argsort(-ops.sum(ops.square(matrix), axis=-1), axis=-1)
        matrix = ops.take_along_axis(matrix, order[:, :, None], axis=1)
        matrix = ops.take_along_axis(matrix, order[:, None], axis=2)
        return ops.take(ops.reshape(matrix, (-1, atoms * atoms)), self._lower, axis=1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """(examples, atoms · (atoms + 1) / 2)."""
        return (input_shape[0], len(self._lower))
