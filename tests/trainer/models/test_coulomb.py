"""The Coulomb matrix against its formula in NumPy, and what it must not depend on."""

import numpy as np
import pytest

from trainer.models.coulomb import CoulombMatrix

ATOMS = 5
WATER = np.array([8.0, 1.0, 1.0]), np.array([[0.0, 0.0, 0.1], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]])


def _flat(charges: np.ndarray, positions: np.ndarray) -> np.ndarray:
    padded = np.zeros(ATOMS), np.zeros((ATOMS, 3))
    padded[0][: len(charges)], padded[1][: len(charges)] = charges, positions
    return np.concatenate([padded[0], padded[1].ravel()])[np.newaxis]


def _layer() -> CoulombMatrix:
    return CoulombMatrix(ATOMS, dtype="float64")


def _sorted_matrix(charges: np.ndarray, positions: np.ndarray) -> np.ndarray:
    matrix = np.zeros((ATOMS, ATOMS))
    for a, charge in enumerate(charges):
        for b, other in enumerate(charges):
            distance = np.linalg.norm(positions[a] - positions[b]) / 0.529177
            matrix[a, b] = 0.5 * charge**2.4 if a == b else charge * other / distance
    order = np.argsort(-np.linalg.norm(matrix, axis=1), kind="stable")
    return matrix[order][:, order]


def test_it_is_the_formula():
    given = _layer()(_flat(*WATER)).numpy()[0]
    np.testing.assert_allclose(given, _sorted_matrix(*WATER)[np.tril_indices(ATOMS)], rtol=1e-9)


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 2, 0]])
def test_neither_place_nor_direction_nor_order_of_atoms_matters(order):
    charges, positions = WATER
    turned, _ = np.linalg.qr(np.random.RandomState(0).normal(size=(3, 3)))
    moved = (positions @ turned + [1.0, -2.0, 3.0])[order]
    layer = _layer()
    np.testing.assert_allclose(layer(_flat(charges[order], moved)), layer(_flat(*WATER)), rtol=1e-9)


def test_another_length_of_input_is_refused():
    with pytest.raises(ValueError, match="takes 20 numbers for 5 atoms, not 21"):
        _layer()(np.zeros((1, 4 * ATOMS + 1)))
