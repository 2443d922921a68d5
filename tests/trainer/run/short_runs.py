"""Runs of a few steps, and what they have saved."""

import io

import tensorflow as tf
from rich.console import Console

from tests import eager, problems
from trainer.run import train as train_lib


def train(path, replicas=1, **changes):
    """Trains a run as it stands; returns what it has said."""
    console = Console(file=io.StringIO(), width=1000)
    simple = {} if "model" in changes else problems.SIMPLE
    config = problems.config(**simple | {"steps": 4, "eval_every": 2, "report_every": 4} | changes)
    with eager.functions():
        train_lib.train(config, str(path), problems.strategy(replicas), console)
    return console.file.getvalue()


def saved(path, step, part="model"):
    """The values of a part of a checkpoint by name."""
    reader = tf.train.load_checkpoint(str(path / "checkpoints" / f"step_{step:08d}" / "variables"))
    keys = [key for key in reader.get_variable_to_shape_map() if key.startswith(f"{part}/")]
    return {key.removeprefix(f"{part}/").split("/")[0].replace(".S", "/"): reader.get_tensor(key) for key in keys}
