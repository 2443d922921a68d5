"""The form of what a run keeps of its data, for a file that anything may have changed."""

import re
from collections.abc import Callable
from typing import Any

_NEEDED = {"fingerprints", "statistics", "feeds"}
_ADDED = {"class_counts", "features"}  # since then
_DTYPE = re.compile(r"bool|string|u?int(8|16|32|64)|b?float(16|32|64)|complex(64|128)")
_FEEDS = ("memory", "streaming", "in_order")


def fits(parts: Any) -> bool:
    """Returns True for JSON with the parts of a `data.SavedData`, each of its form."""
    return (
        isinstance(parts, dict)
        and _NEEDED <= parts.keys() <= _NEEDED | _ADDED
        and _is_table(parts["fingerprints"], lambda splits: _is_table(splits, lambda text: isinstance(text, str)))
        and _is_table(parts["statistics"], lambda chains: _is_table(chains, _is_learned))
        and _is_table(parts["feeds"], lambda feed: feed in _FEEDS)
        and _is_table(parts.get("features", {}), lambda features: _is_table(features, _is_feature))
        and _is_table(parts.get("class_counts", {}), lambda labels: _is_list(labels, _are_counts))
    )


def _is_table(value: Any, check: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(check, value.values()))


def _is_list(value: Any, check: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(check, value))


def _is_learned(operations: Any) -> bool:
    return _is_list(operations, lambda learned: isinstance(learned, dict))


def _are_counts(counts: Any) -> bool:
    return _is_list(counts, _is_count)


def _is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number < 2**63


def _is_feature(form: Any) -> bool:
    """Returns True for what `remembered.form` gives of a feature."""
    return (
        isinstance(form, dict)
        and {"dtype", "shape"} <= form.keys() <= {"dtype", "shape", "optional", "classes"}
        and isinstance(form["dtype"], str)
        and _DTYPE.fullmatch(form["dtype"]) is not None
        and (form["shape"] is None or _is_list(form["shape"], lambda side: side is None or _is_count(side)))
        and isinstance(form.get("optional", True), bool)
        and _is_list(form.get("classes", []), lambda name: isinstance(name, str))
    )
