"""The trainer of a worker that finds modules first in a folder named for its rank: `python -m tests.launch.of_rank`."""

import json
import os
import pathlib
import runpy
import sys

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path.cwd() / str(json.loads(os.environ["TF_CONFIG"])["task"]["index"])))
    runpy.run_module("trainer.main", run_name="__main__", alter_sys=True)
