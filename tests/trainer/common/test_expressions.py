"""Expressions over named values: Python's own arithmetic, and one line for what is none."""

import random
import re

import pytest

from trainer.common import expressions

VALUES = {"digit/accuracy": 0.75, "ink/mae": 2.5, "a": -3.0, "loss/b-c_1": 1e-3}


def _expression(source: random.Random, depth: int = 0) -> tuple[str, str]:
    """An expression, and the same in Python."""
    kind = source.choice(["number", "name"] if depth > 4 else ["number", "name", "negated", "group", "pair", "pair"])
    if kind == "number":
        text = source.choice(["2", "0.5", ".25", "1e2", "3.", "1.5E-3", "07.0"])
        return text, text
    if kind == "name":
        name = source.choice(list(VALUES))
        return f"{{{name}}}", f"values[{name!r}]"
    first, in_python = _expression(source, depth + 1)
    if kind == "negated":
        return f"-{first}", f"-{in_python}"
    if kind == "group":
        return f"( {first})", f"({in_python})"
    second, second_in_python = _expression(source, depth + 1)
    operator = source.choice(["+", " - ", "*", " /", "-"])
    return f"{first}{operator}{second}", f"{in_python}{operator}{second_in_python}"


def test_they_bind_and_round_as_in_python():
    source, compared = random.Random(0), 0
    while compared < 300:
        text, in_python = _expression(source)
        if "{" not in text:
            continue
        compared += 1
        try:
            expected = eval(in_python, {"values": VALUES})
        except ZeroDivisionError:
            with pytest.raises(ZeroDivisionError):
                expressions.parse(text).evaluate(VALUES)
        else:
            assert expressions.parse(text).evaluate(VALUES) == expected, text


def test_names_are_said_once_in_their_order():
    assert expressions.parse("2*{ink/mae} - { a }/{ink/mae}").names == ("ink/mae", "a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a number, a name in braces or '(' is missing at its end"),
        ("digit/accuracy - {a}", "a number, a name in braces or '(' is missing before 'digit/accuracy - {a}'"),
        ("{a} - ink", "is missing before 'ink'"),
        ("{a} {a}", "an operator is missing before '{a}'"),
        ("{a} ** 2", "is missing before '* 2'"),
        ("({a} + 1", "an operator or ')' is missing at its end"),
        ("{a} + 1)", "an operator is missing before ')'"),
        ("{a", "is missing before '{a'"),
        ("{a}.real", "an operator is missing before '.real'"),
        ("__import__('os')", """is missing before "__import__('os')"""),
        ("1 + 2", "names no value"),
        ("{a} + 1e999", "1e999 is too large"),
        ("(" * 5000 + "{a}", "more than 50 parentheses"),
        ("-" * 5000 + "{a}", "more than 50 parentheses"),
    ],
)
def test_others_are_refused(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        expressions.parse(text)
