"""Data and models that differ between the workers of a test."""

import json
import os

import keras

from input_pipelines.examples import Examples
from tests import problems


def load(**options: object) -> dict[str, Examples]:
    return problems.load(int(os.environ.get("EXAMPLES", "64")), **options)


def model() -> keras.Model:
    """A model of which worker 1 has another variable, as if its file of weights were another one."""
    built = problems.two_towers()
    if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
        bias = built.get_layer("right").bias
        bias.assign(bias + 1e-12)
    return built
