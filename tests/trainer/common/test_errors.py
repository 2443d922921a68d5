"""Messages about values of any kind: one line that a terminal can show."""

import pytest

from trainer.common import errors
from trainer.common.errors import ConfigError


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class WordlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class NoText:
    def __repr__(self) -> int:
        return 3


def _deep() -> list:
    value = []
    for _ in range(100_000):
        value = [value]
    return value


VALUES = [
    (Unspeakable(), "<Unspeakable without a text: RuntimeError>"),
    (NoText(), "<NoText without a text: TypeError>"),
    ([1, Unspeakable()], "<list without a text: RuntimeError>"),
    (_deep(), "<list without a text: RecursionError>"),
    (10**5000, "<int without a text: ValueError>"),
    ("\x1b[31mred\n\x00\u2028\udcff", r"'\x1b[31mred\n\x00\u2028\udcff'"),
    (type("Odd", (), {"__repr__": lambda self: "two\nlines \x1b[2J"})(), r"two lines \x1b[2J"),
    ("x" * 10**7, "'" + "x" * 39 + "..." + "x" * 76 + "'"),
]


@pytest.mark.parametrize(("value", "shown"), VALUES, ids=range(len(VALUES)))
def test_a_value_is_one_line(value, shown):
    assert str(ConfigError("field", value, "must be other")) == f"field={shown}: must be other"


def test_names_and_errors_without_a_text():
    assert "<Unspeakable without a text" in str(errors.unknown("field", Unspeakable(), "name", ["a"]))
    assert errors.first_line(WordlessError()) == "<WordlessError without a text: RuntimeError>"
    assert errors.reason_of(WordlessError()) == "<WordlessError without a text: RuntimeError>"
    assert errors.with_notes(WordlessError()) == "<WordlessError without a text: RuntimeError>"
