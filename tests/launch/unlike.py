"""Data that differ between the workers of a test."""

import os

from input_pipelines.examples import Examples
from tests import problems


def load(**options: object) -> dict[str, Examples]:
    return problems.load(int(os.environ.get("EXAMPLES", "64")), **options)
