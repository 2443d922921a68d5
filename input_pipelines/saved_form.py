"""The form of what a run keeps of its data, for a file that anything may have changed."""

from collections.abc import Callable
from typing import Any

_NEEDED = {"fingerprints", "statistics", "feeds"}
_FEEDS = ("memory", "streaming", "in_order")


def fits(parts: Any) -> bool:
    """Returns True for JSON with the parts of a `data.SavedData`, each of its form."""
    return (
        isinstance(parts, dict)
        and _NEEDED <= parts.keys() <= _NEEDED | {"class_counts"}
        and _is_table(parts["fingerprints"], lambda splits: _is_table(splits, lambda text: isinstance(text, str)))
        and _is_table(parts["statistics"], lambda chains: _is_table(chains, _is_learned))
        and _is_table(parts["feeds"], lambda feed: feed in _FEEDS)
        and _is_table(parts.get("class_counts", {}), lambda labels: _is_list(labels, _are_counts))
    )


def _is_table(value: Any, check: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(check, value.values()))


def _is_list(value: Any, check: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(check, value))


def _is_learned(operations: Any) -> bool:
    return _is_list(operations, lambda learned: isinstance(learned, dict))


def _are_counts(counts: Any) -> bool:
    return _is_list(counts, lambda count: type(count) is int and 0 <= count < 2**63)
