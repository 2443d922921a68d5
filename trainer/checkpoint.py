"""Checkpoints: the variables of the model and of every optimizer, by name, in TensorFlow's own format."""

import pathlib
import shutil
from collections.abc import Iterable

import keras
import tensorflow as tf

from trainer.errors import ConfigError, first_line
from trainer.optimizers import Update

_PREFIX = "variables"


def save(directory: pathlib.Path, step: int, model: keras.Model, updates: Iterable[Update]) -> pathlib.Path:
    """Writes `directory/step_<step>`; it appears only when it is whole.

    Args:
      directory: the run's checkpoints.
      step: number of steps taken.
      model: the model. States of random layers are left out: every step sets them anew.
      updates: the optimizers.

    Returns:
      The checkpoint's folder.
    """
    final = directory / f"step_{step:08d}"
    partial = directory / f".incomplete_{final.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    optimizers = {update.name: _by_name(update.optimizer.variables, skip_prefix=True) for update in updates}
    tf.train.Checkpoint(model=_by_name(model.variables), optimizers=optimizers).write(str(partial / _PREFIX))
    partial.rename(final)
    return final


def latest(directory: pathlib.Path) -> pathlib.Path:
    """The folder of the newest checkpoint; raises ConfigError where there is none."""
    found = sorted(directory.glob("step_*"))
    if not found:
        raise ConfigError("--workdir", str(directory.parent), "holds no checkpoint; the run has not finished")
    return found[-1]


def restore_model(checkpoint: pathlib.Path, model: keras.Model) -> int:
    """Reads the model's variables; returns the step they were saved at.

    Raises:
      ConfigError: the checkpoint is damaged, or of another model.
    """
    try:
        status = tf.train.Checkpoint(model=_by_name(model.variables)).read(str(checkpoint / _PREFIX))
        status.assert_existing_objects_matched().expect_partial()
    except (tf.errors.OpError, AssertionError, ValueError) as error:
        raise ConfigError(
            "--workdir", str(checkpoint), f"does not hold this model's variables: {first_line(error)}"
        ) from error
    return int(checkpoint.name.removeprefix("step_"))


def _by_name(variables: Iterable[keras.Variable], *, skip_prefix: bool = False) -> dict[str, tf.Variable]:
    """Variables by path, so that a checkpoint does not depend on their order.

    Args:
      variables: a model's or an optimizer's.
      skip_prefix: leave out the first part of the path, an optimizer's name, which counts the optimizers made before
      it.
    """
    named: dict[str, tf.Variable] = {}
    for variable in variables:
        if variable.path.endswith("seed_generator_state"):
            continue
        name = variable.path.partition("/")[2] if skip_prefix else variable.path
        if name in named:
            raise ConfigError("model", name, "two variables have this name; give their layers names of their own")
        named[name] = variable.value
    return named
