"""Checkpoints: the variables of the model and of every optimizer, by name, in TensorFlow's own format."""

import pathlib
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

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
    optimizers = {update.name: _slots_by_name(update.optimizer) for update in updates}
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
    prefix = str(checkpoint / _PREFIX)
    named = _by_name(model.variables)
    try:
        _check_fits(named, tf.train.load_checkpoint(prefix), checkpoint)
        status = tf.train.Checkpoint(model=named).read(prefix)
        status.expect_partial()  # the optimizers stay unread
        status.assert_existing_objects_matched()
    except ConfigError:
        raise
    except (tf.errors.OpError, AssertionError, ValueError) as error:
        raise ConfigError("--workdir", str(checkpoint), f"holds no readable checkpoint: {first_line(error)}") from error
    return int(checkpoint.name.removeprefix("step_"))


def _check_fits(named: Mapping[str, tf.Variable], saved: Any, checkpoint: pathlib.Path) -> None:
    """Raises ConfigError for the first variable that the checkpoint lacks or holds in another shape or type."""
    shapes, dtypes = saved.get_variable_to_shape_map(), saved.get_variable_to_dtype_map()
    for name, variable in named.items():
        # How TensorFlow writes a name with these characters.
        key = f"model/{name.replace('.', '..').replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"
        here = f"{variable.dtype.name}{variable.shape.as_list()}"
        there = f"{dtypes[key].name}{shapes[key]}" if key in shapes else "missing"
        if here != there:
            reason = f"does not hold this model's variables: {name} is {here} in the model, {there} in the checkpoint"
            raise ConfigError("--workdir", str(checkpoint), reason)


def check_names(model: keras.Model) -> None:
    """Raises ConfigError where two variables of the model have the same path: a checkpoint could not tell them."""
    _by_name(model.variables)


def _by_name(variables: Iterable[keras.Variable]) -> dict[str, tf.Variable]:
    """A model's variables by path, so that a checkpoint does not depend on their order."""
    named: dict[str, tf.Variable] = {}
    for variable in variables:
        if variable.path.endswith("seed_generator_state"):
            continue
        if variable.path in named:
            raise ConfigError("model", variable.path, "is the path of two variables; name their layers apart")
        named[variable.path] = variable.value
    return named


def _slots_by_name(optimizer: keras.optimizers.Optimizer) -> dict[str, tf.Variable]:
    """An optimizer's variables by path, without its own name, which counts the optimizers made before it."""
    named: dict[str, tf.Variable] = {}
    for variable in optimizer.variables:
        name = variable.path.partition("/")[2]
        # Adafactor names its slots for the last part of a variable's path alone; then the order must tell.
        unique = next(key for key in (name, *(f"{name}_{i}" for i in range(2, 2 + len(named)))) if key not in named)
        named[unique] = variable.value
    return named
