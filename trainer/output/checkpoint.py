"""Checkpoints: a run's variables by name, in TensorFlow's own format, with checksums, written whole or not at all.

A checkpoint is a folder `step_<number>`: `variables.index` and `variables.data-…` as `tf.train.Checkpoint` writes them,
`run.json` (`manifest.py`) and `checksums.json`, SHA-256 of every other file. One that does not agree with its checksums
is damaged; it is never read and never deleted.
"""

import itertools
import json
import pathlib
import re
import shutil
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from trainer.common import atomic_files, json_text
from trainer.common.errors import ConfigError, RunError, first_line, system_reason
from trainer.components.optimizers import OptimizerGroup
from trainer.models.names import slots_by_name, variables_by_name
from trainer.output import checkpoint_tensors

_CHECKSUMS = "checksums.json"
_HOST = "CPU:0"
_NAME = re.compile(r"step_([0-9]{8}|[1-9][0-9]{8,17})")
_LISTINGS = 5  # that a run which is training may outdate, before there is no checkpoint to read

# A part of a run ("model", "optimizers/shared") → a name within it → the variable.
State = Mapping[str, Mapping[str, tf.Variable]]


class SavedVariable(NamedTuple):
    """A variable as it was at one moment.

    Attributes:
      name: the variable's own name, which TensorFlow writes beside the value.
      value: in host memory; later changes of the variable do not change it.
    """

    name: str
    value: tf.Tensor


Snapshot = Mapping[str, Mapping[str, SavedVariable]]  # of a State, with its names


def state_of(model: keras.Model, groups: Iterable[OptimizerGroup]) -> dict[str, dict[str, tf.Variable]]:
    """The variables of a model and of its optimizers, for `save` and `restore`.

    States of random layers are left out: every step sets them.
    """
    named = variables_by_name(model)
    names = {id(variable): name for name, variable in named.items()}
    parts = {"model": {name: variable.value for name, variable in named.items()}}
    for group in groups:
        slots = slots_by_name(group.optimizer, {names[id(variable)]: variable for variable in group.variables})
        parts[f"optimizers/{group.name}"] = {name: slot.value for name, slot in slots.items()}
    return parts


def model_state(model: keras.Model) -> dict[str, tf.Variable]:
    """A model's variables by name, so that a checkpoint does not depend on their order.

    Raises:
      ConfigError: two variables have the same name, so that a checkpoint could not tell them apart.
    """
    return {name: variable.value for name, variable in variables_by_name(model).items()}


def snapshot(state: State) -> Snapshot:
    """Copies the variables' present values (of mirrored ones: the first replica's), for `save` to write later."""
    with tf.device(_HOST):
        return {
            part: {name: SavedVariable(own.name.partition(":")[0], tf.identity(own)) for name, own in variables.items()}
            for part, variables in state.items()
        }


def save(
    directory: pathlib.Path, step: int, saved: Snapshot, beside: Mapping[str, str] = types.MappingProxyType({})
) -> pathlib.Path:
    """Writes `directory/step_<step>`; it appears only when it is whole and on the disk.

    Any thread can call it: it reads nothing but `saved`.

    Args:
      directory: the run's checkpoints.
      step: number of steps taken.
      saved: the variables.
      beside: further files of the checkpoint: name → text.

    Raises:
      RunError: it cannot be written; what was there before is as it was.
    """
    final = directory / f"step_{step:08d}"
    partial = directory / f".incomplete_{final.name}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        directory.mkdir(exist_ok=True)  # never a run's folder, which may have been removed or renamed
        partial.mkdir()
        _as_checkpoint(_variables(saved)).write(str(partial / checkpoint_tensors.PREFIX))
        for name, text in beside.items():
            (partial / name).write_text(text)
        sums = {path.name: atomic_files.checksum(path) for path in sorted(partial.iterdir())}
        (partial / _CHECKSUMS).write_text(json.dumps(sums, indent=2) + "\n")
        for path in (*partial.iterdir(), partial):
            atomic_files.sync(path)
        if reason := damage(partial):
            raise OSError(reason)
        partial.rename(final)
        atomic_files.sync(directory)
    except (OSError, tf.errors.OpError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        rest = f"the last checkpoint is of step {kept[-1]}" if (kept := saved_steps(directory)) else "it is the first"
        what = f"the checkpoint cannot be written to {directory} ({system_reason(error)})"
        raise RunError(f"step {step}: {what}; {rest}") from error
    return final


def saved_steps(directory: pathlib.Path) -> list[int]:
    """The steps that have checkpoints, ascending; other files and folders among them are none of the run's."""
    return sorted(
        int(path.name.removeprefix("step_"))
        for path in directory.glob("step_*")
        if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    )


def newest_good(directory: pathlib.Path, warn: Callable[[str], None]) -> pathlib.Path | None:
    """The newest checkpoint that is not damaged; None where there are no checkpoints.

    Args:
      directory: the run's checkpoints.
      warn: gets a line for each damaged one that is newer.

    Raises:
      ConfigError: there are checkpoints, and all are damaged.
    """
    for _ in range(_LISTINGS):
        damaged: dict[pathlib.Path, str] = {}
        for step in reversed(saved_steps(directory)):
            folder = directory / f"step_{step:08d}"
            reason = damage(folder)
            if reason is None:
                for other, why in damaged.items():
                    warn(f"checkpoint {other} is damaged ({why}); the one before is used")
                return folder
            if not folder.exists():  # a run that is training has removed it, and has another
                break
            damaged[folder] = reason
        else:
            break
    if not damaged:
        return None
    newest = next(iter(damaged.values()))
    raise ConfigError(
        checkpoint_tensors.FIELD,
        str(directory),
        f"all its {len(damaged)} checkpoints are damaged (the newest: {newest})",
    )


def damage(folder: pathlib.Path) -> str | None:
    """Returns what is wrong with a checkpoint's files; None where they agree with their checksums."""
    try:
        sums = json_text.parse((folder / _CHECKSUMS).read_bytes())
        if not isinstance(sums, dict) or f"{checkpoint_tensors.PREFIX}.index" not in sums:
            return f"{_CHECKSUMS} lacks {checkpoint_tensors.PREFIX}.index"
        for name, checksum in sums.items():
            if pathlib.PurePath(name).name != name or not (folder / name).is_file():  # not what lies elsewhere
                return f"{name} is missing"
            if atomic_files.checksum(folder / name) != checksum:
                return f"{name} does not have its checksum"
        unknown = {path.name for path in folder.iterdir() if path.name[0] != "."} - {*sums, _CHECKSUMS}
        if unknown:
            return f"{_CHECKSUMS} lacks {min(unknown)}"
    except FileNotFoundError as error:
        return f"{pathlib.Path(error.filename).name} is missing"
    except OSError as error:
        return system_reason(error)
    except ValueError:
        return f"{_CHECKSUMS} cannot be read"
    return None


def set_aside(directory: pathlib.Path, newer_than: int) -> None:
    """Renames checkpoints of later steps, which are damaged, so that the run can save those steps again."""
    for step in saved_steps(directory):
        if step > newer_than:
            folder = directory / f"step_{step:08d}"
            folder.rename(next(path for path in _damaged_names(folder) if not path.exists()))


def remove_incomplete(directory: pathlib.Path) -> None:
    """Removes what a save that was interrupted has left."""
    for path in directory.glob(".incomplete_step_*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)


def prune(directory: pathlib.Path, keep: int, also: int | None) -> None:
    """Removes all checkpoints but the last `keep` and that of step `also`.

    Each is gone at once for whoever lists them, and is never seen in part.
    """
    for step in saved_steps(directory)[:-keep]:
        if step != also:
            removed = directory / f".incomplete_step_{step:08d}"
            shutil.rmtree(removed, ignore_errors=True)
            (directory / f"step_{step:08d}").rename(removed)
            shutil.rmtree(removed)


def restore(folder: pathlib.Path, state: State) -> None:
    """Reads variables from a checkpoint, on every replica.

    Args:
      folder: a checkpoint that is not damaged.
      state: the variables to read; the checkpoint may hold more.

    Raises:
      ConfigError: the checkpoint lacks a variable, or holds it in another shape or type.
    """
    prefix = str(folder / checkpoint_tensors.PREFIX)
    try:
        _check_fits(state, folder)
        status = _as_checkpoint(state).read(prefix)
        status.expect_partial()
        status.assert_existing_objects_matched()
    except ConfigError:
        raise
    except (tf.errors.OpError, AssertionError, IndexError, ValueError) as error:  # IndexError: the data are too short
        raise ConfigError(
            checkpoint_tensors.FIELD, str(folder), f"holds no readable checkpoint: {first_line(error)}"
        ) from error


def held(folder: pathlib.Path, state: State) -> State:
    """Those of the variables that a checkpoint, which can be read, holds in their shape and type."""
    kinds = checkpoint_tensors.kinds(folder)
    found = {
        part: {
            name: own
            for name, own in variables.items()
            if kinds.get(checkpoint_tensors.key(part, name)) == checkpoint_tensors.kind(own)
        }
        for part, variables in state.items()
    }
    return {part: variables for part, variables in found.items() if variables}


def folder_of(directory: pathlib.Path, step: int) -> pathlib.Path:
    """The folder of a step's checkpoint, whether it is there or not."""
    return directory / f"step_{step:08d}"


def step_of(folder: pathlib.Path) -> int:
    """The step a checkpoint is of."""
    return int(folder.name.removeprefix("step_"))


def _variables(saved: Snapshot) -> State:
    with tf.device(_HOST):
        return {
            part: {name: tf.Variable(own.value, trainable=False, name=own.name) for name, own in values.items()}
            for part, values in saved.items()
        }


def _as_checkpoint(state: State) -> tf.train.Checkpoint:
    nested: dict[str, Any] = {}
    for part, variables in state.items():
        *parents, last = part.split("/")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = dict(variables)
    return tf.train.Checkpoint(**nested)


def _check_fits(state: State, folder: pathlib.Path) -> None:
    """Raises ConfigError for the first variable that the checkpoint lacks or holds in another shape or type."""
    kinds = checkpoint_tensors.kinds(folder)
    for part, variables in state.items():
        for name, variable in variables.items():
            here, there = checkpoint_tensors.kind(variable), kinds.get(checkpoint_tensors.key(part, name), "missing")
            if here != there:
                reason = f"does not hold this run's variables: {part} {name} is {here} here, {there} in the checkpoint"
                raise ConfigError(checkpoint_tensors.FIELD, str(folder), reason)


def _damaged_names(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    yield folder.with_name(f"damaged_{folder.name}")
    for count in itertools.count(2):
        yield folder.with_name(f"damaged_{folder.name}_{count}")
