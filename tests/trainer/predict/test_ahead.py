"""Working ahead of a reader."""

from typing import Any

import pytest

from trainer.predict import ahead


def test_working_ahead():
    """Items come in order, an error where it happened, and the thread ends with its reader."""
    assert list(ahead.ahead(iter(range(10)))) == list(range(10))
    made = []

    def failing() -> Any:
        for number in range(1000):
            made.append(number)
            if number == 3:
                raise ValueError("three")
            yield number

    items = ahead.ahead(failing())
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(items)

    def endless() -> Any:
        while True:
            made.append(0)
            yield 0

    items = ahead.ahead(endless())
    next(items)
    items.close()
    count = len(made)
    assert count < 20
    assert len(made) == count
