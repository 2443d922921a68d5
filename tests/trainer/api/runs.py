"""The variables that a run has saved, and the comparison of two runs."""

import pathlib

import numpy as np
import tensorflow as tf

from trainer.output import checkpoint, checkpoint_tensors


def variables(run: pathlib.Path) -> dict[str, np.ndarray]:
    """Everything in a run's newest checkpoint, by name."""
    folder = checkpoint.newest_good(run / "checkpoints", print)
    reader = tf.train.load_checkpoint(str(folder / checkpoint_tensors.PREFIX))
    return {
        name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "CHECKPOINTABLE" not in name
    }


def assert_equal(one: pathlib.Path, other: pathlib.Path) -> None:
    """Asserts that two runs have the same variables and reports, bit for bit."""
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    ones, others = variables(one), variables(other)
    assert ones.keys() == others.keys()
    for name, value in ones.items():
        assert value.tobytes() == others[name].tobytes(), name
