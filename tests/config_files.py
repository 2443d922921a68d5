"""Configurations as files for programs of the project, which need not import anything for them."""

from collections.abc import Mapping
from typing import Any


def text(tree: Mapping[str, Any], line: str = "") -> str:
    """Returns a file of Python whose `get_config` gives this tree, after a further line that may change it."""
    return f"""
import json, os
from math import inf, nan
import ml_collections


def get_config():
    tree = {dict(tree)!r}
    {line}
    return ml_collections.ConfigDict(tree)
"""
