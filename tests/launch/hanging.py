"""Data of which the second worker never gets hold."""

import json
import os
import time

from input_pipelines.examples import Examples
from tests import problems


def load(**options: object) -> dict[str, Examples]:
    if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
        time.sleep(3600)
    return problems.load(**options)
