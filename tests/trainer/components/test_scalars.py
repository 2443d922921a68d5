"""Numbers that a run makes tensors of."""

import sys

import pytest

from trainer.components import optimizers, scalars
from trainer.run import loop

STEP = 10**6 + 7


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (scalars.int64, STEP),
        (scalars.float64, 0.1 + STEP),
        (lambda number: loop.arguments(number, number + 10**4, True), STEP),
        (lambda number: optimizers.learning_rates((), number), STEP),
    ],
)
def test_no_number_is_kept(make, number):
    """TensorFlow keeps Python numbers and their tensors: memory would grow with every step or report."""
    before = sys.getrefcount(number)
    made = make(number)
    assert sys.getrefcount(number) == before
    if not isinstance(made, tuple | dict):
        assert (made.numpy(), made.dtype.name) == (number, make.__name__)
