"""JSON from outside: what is read, and that anything else is a ValueError of one line."""

import math

import pytest

from trainer.common import json_text

DEEP = 100_000


REFUSED = [
    ("", "Expecting value"),
    ("{", "Expecting property name"),
    (b'"\xff"', "can't decode byte 0xff"),
    ("1" * 5000, "Exceeds the limit"),
    ('{"a": [NaN]}', "it holds NaN, which is no finite number"),
    ("-Infinity", "it holds -Infinity, which is no finite number"),
    ("1e999", "it holds 1e999, which is no finite number"),
    ('{"b": {"a": 1, "a": 1}}', "it has the key 'a' twice"),
    ("[" * DEEP + "]" * DEEP, "it is nested more than 100 levels deep"),
    ('{"a":' * DEEP + "1" + "}" * DEEP, "it is nested more than 100 levels deep"),
    ("[" * 101 + "1" + "]" * 101, "it is nested more than 100 levels deep"),
    ("[" * DEEP, "it is nested more than 100 levels deep"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_refused(text, reason):
    with pytest.raises(ValueError, match=reason) as error:
        json_text.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        (b'{"a": [1, 2.5, "\\u00e9", true]}', {"a": [1, 2.5, "é", True]}),
        ("[" * 100 + "]" * 100, None),
    ],
)
def test_read(text, value):
    assert value is None or json_text.parse(text) == value
    json_text.parse(text)


def test_numbers_that_are_not_finite_where_they_may_be():
    nan, infinite, large = json_text.parse("[NaN, -Infinity, 1e999]", finite=False)
    assert math.isnan(nan)
    assert (infinite, large) == (-math.inf, math.inf)
