"""Nested features of TFDS by path, `about/kind`, and back."""

from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested features or values by path, `a/b`."""
    inner = tree.items() if isinstance(tree, Mapping | tfds.features.FeaturesDict) else None
    if inner is None:
        return {prefix: tree}
    found = {}
    for name, value in inner:
        found |= flat(value, f"{prefix}/{name}" if prefix else name)
    return found


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`: each value at its feature's place."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree
