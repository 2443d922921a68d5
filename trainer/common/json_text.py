"""JSON that comes from outside the process, read so that whatever is wrong with it is a ValueError of one line."""

import json
import math
from typing import Any

_DEEPEST = 100  # lists and dictionaries within one another: Python's own limit depends on who calls


def parse(text: str | bytes, *, finite: bool = True) -> Any:
    """Returns what a text of JSON holds.

    Args:
      text: the text; bytes are UTF-8.
      finite: refuse NaN, Infinity and numbers that are too large for a float, which Python's own JSON may hold.

    Raises:
      ValueError: it is no such text, has a key twice in a dictionary or is nested too deeply.
    """
    if isinstance(text, bytes):
        text = text.decode()
    number = _finite if finite else None
    try:
        value = json.loads(text, object_pairs_hook=_dictionary, parse_float=number, parse_constant=number)
    except RecursionError as error:
        raise _too_deep() from error
    refuse_deep(value)
    return value


def refuse_deep(value: Any) -> None:
    """Raises ValueError where lists and dictionaries lie within one another too deeply for `parse`."""
    entries = [value]
    for _ in range(_DEEPEST + 1):
        inner = [each.values() if isinstance(each, dict) else each for each in entries if isinstance(each, dict | list)]
        entries = [entry for each in inner for entry in each]
        if not entries:
            return
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {_DEEPEST} levels deep")


def _dictionary(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"it has the key {key[:80]!r} twice")
        result[key] = value
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds {text[:80]}, which is no finite number")
    return value
