"""Arithmetic over named values, as text: `{digit/accuracy} - 2 * {ink/mae}`. Text is parsed, never run as Python."""

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Mapping

Evaluate = Callable[[Mapping[str, float]], float]
_Operator = Callable[[float, float], float]
_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|\{(?P<name>[^{}]*)\}|(?P<sign>[-+*/()])", re.ASCII
)
_SUM = {"+": operator.add, "-": operator.sub}
_PRODUCT = {"*": operator.mul, "/": operator.truediv}
_DEEPEST = 50  # parentheses and signs within one another: far below what Python can nest


@dataclasses.dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Attributes:
      names: the values that it reads, in the order in which they first stand there.
      evaluate: its value, from the values by their names; raises ZeroDivisionError.
    """

    names: tuple[str, ...]
    evaluate: Evaluate


def parse(text: str) -> Expression:
    """Parses numbers, names in braces, `+`, `-`, `*`, `/` and parentheses, which bind as in Python.

    Raises:
      ValueError: the text is no such expression, or reads no value; the message is part of a line.
    """
    parser = _Parser(text)
    evaluate = parser.sum()
    if parser.rest:
        raise parser.error("an operator")
    if not parser.names:
        raise ValueError("it names no value: a name stands in braces, {loss/<loss>}")
    return Expression(tuple(dict.fromkeys(parser.names)), evaluate)


class _Parser:
    """A recursive descent: a sum of products of factors.

    Attributes:
      rest: what is still to be read.
      names: those that have been read.
    """

    def __init__(self, text: str):
        self.rest = text.strip()
        self.names: list[str] = []
        self._depth = 0

    def error(self, expected: str) -> ValueError:
        """An error at the place that is reached."""
        where = f"before {self.rest!r}" if self.rest else "at its end"
        return ValueError(f"{expected} is missing {where}")

    def sum(self) -> Evaluate:
        """Reads terms with `+` and `-` between them."""
        return self._chain(_SUM, self._product)

    def _product(self) -> Evaluate:
        return self._chain(_PRODUCT, self._factor)

    def _chain(self, operators: Mapping[str, _Operator], operand: Callable[[], Evaluate]) -> Evaluate:
        first, others = operand(), []
        while self.rest[:1] in operators:
            others.append((operators[self._take().group()], operand()))

        def evaluate(values: Mapping[str, float]) -> float:
            result = first(values)
            for apply, other in others:
                result = apply(result, other(values))
            return result

        return evaluate

    def _factor(self) -> Evaluate:
        before, token = self.rest, self._take()
        if token["name"] is not None:
            name = token["name"].strip()
            self.names.append(name)
            return lambda values: float(values[name])
        if token["number"] is not None:
            return _constant(token["number"])
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} parentheses and signs stand within one another")
        if token["sign"] == "-":
            found = _negated(self._factor())
        elif token["sign"] == "(":
            found = self.sum()
            if self.rest[:1] != ")":
                raise self.error("an operator or ')'")
            self._take()
        else:
            self.rest = before
            raise self.error("a number, a name in braces or '('")
        self._depth -= 1
        return found

    def _take(self) -> re.Match[str]:
        token = _TOKEN.match(self.rest)
        if token is None:
            raise self.error("a number, a name in braces or '('")
        self.rest = self.rest[token.end() :].lstrip()
        return token


def _constant(text: str) -> Evaluate:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return lambda values: value


def _negated(inner: Evaluate) -> Evaluate:
    return lambda values: -inner(values)
