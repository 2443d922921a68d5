"""The trained values that `init_from` names: of a run, a checkpoint or a file of Keras', read and never changed."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from trainer.common.errors import ConfigError, first_line
from trainer.config import initial_values
from trainer.config.initial_values import PATH
from trainer.models import weight_files
from trainer.output import checkpoint, checkpoint_tensors, chosen
from trainer.output.workdir import Workdir
from trainer.step.update import AVERAGE

_MODEL = "model"
_TRIES = 5  # a run that is training saves less often than a checkpoint is read
_READING_ERRORS = (tf.errors.OpError, OSError, ValueError, KeyError)


class Source(NamedTuple):
    """Trained values.

    Attributes:
      shown: the place where they were, for people.
      values: name → value.
      is_file: whether they are of a file of Keras', which numbers the variables of a layer.
    """

    shown: str
    values: Mapping[str, np.ndarray]
    is_file: bool = False


def read(given: str, base: pathlib.Path) -> Source:
    """Returns the trained values at a path.

    Of a run they are those of the best checkpoint where it keeps one, else of the newest; of a checkpoint that has
    moving averages of variables, these. A run may be training meanwhile.

    Args:
      given: the path.
      base: the directory that a relative path is in.

    Raises:
      ConfigError: there is nothing of the kind, or it is damaged.
    """
    initial_values.refuse_missing(given, base)
    path = base / given
    if path.is_file() and path.name.endswith((weight_files.ARCHIVE, weight_files.WEIGHTS)):
        return Source(given, weight_files.read(path, PATH, given), is_file=True)
    run = Workdir(path, given=pathlib.Path(given))
    if run.config.is_file():
        return _of_run(run, given)
    if (path / f"{checkpoint_tensors.PREFIX}.index").is_file():
        if reason := checkpoint.damage(path):
            raise ConfigError(PATH, given, f"is a damaged checkpoint: {reason}")
        return _of_checkpoint(path, given, given)
    raise ConfigError(PATH, given, initial_values.FORMS)


def _of_run(run: Workdir, given: str) -> Source:
    for _ in range(_TRIES):
        try:
            folder = chosen.best_or_newest(run, logging.warning)
        except ConfigError as error:
            raise ConfigError(PATH, given, error.allowed) from error
        try:
            return _of_checkpoint(folder, given, str(run.shown / folder.relative_to(run.path)))
        except (ConfigError, OSError):
            if folder.exists():
                raise
    raise ConfigError(PATH, given, "is a run whose checkpoints are gone before they are read")


def _of_checkpoint(folder: pathlib.Path, given: str, shown: str) -> Source:
    try:
        values = checkpoint_tensors.part(folder, _MODEL)
        averages = checkpoint_tensors.part(folder, AVERAGE)
    except _READING_ERRORS as error:
        raise ConfigError(PATH, given, f"holds no readable checkpoint: {first_line(error)}") from error
    return Source(f"{shown} (moving averages)" if averages else shown, values | averages)
