"""Reports of a run for TensorBoard."""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import summary_v2 as hyperparameters

from trainer.common import atomic_files
from trainer.components import scalars
from trainer.output import reports
from trainer.output.reports import EVENTS, TRAIN, VALIDATION, Report

# Before a reported name → the section of its tag. TensorBoard sorts sections by their names.
_SECTIONS = {
    "loss/": "1 losses",
    "monitor/": "2 metrics",
    "grad_norm/": "3 gradient norms",
    "cosine/": "4 cosines",
    "coefficient/": "5 coefficients",
    "learning_rate/": "6 learning rates",
    "speed/": "7 speed",
    "segment/": "8 segments",
    "labels/": "9 labels",
}
_METRICS, _STEPS = "2 metrics", "9 steps"
# Settings that change what is learned and are not the same for a whole project; of groups, all that is in them.
_HYPERPARAMETERS = (
    *("seed", "steps", "batch_size", "precision", "reduction", "clip_norm", "ema", "model.name", "optimizer."),
    *("shared_optimizer.", "learning_rate_factors.", "combine.name", "combine.apply", "combine.use_weights"),
    *("combine.log_losses", "combine.smoothing", "combine.update_every", "combine.options."),
)
_OF_LOSSES = ("weight", "loss", "loss.name", "optimizer.name", "optimizer.learning_rate")


def tag(name: str) -> str:
    """The tag of a reported value, whose section TensorBoard shows in a useful place."""
    for prefix, section in _SECTIONS.items():
        if name.startswith(prefix):
            return f"{section}/{name.removeprefix(prefix)}"
    return f"{_METRICS}/{name}" if "/" in name else f"{_STEPS}/{name}"


class TensorBoard:
    """Writes each report as scalars, one folder per split so that their curves lie over one another.

    Those of `train` and `validation` are made at once, another split's with its first report.
    """

    def __init__(self, directory: pathlib.Path):
        self._directory = directory
        self._writers = {split: self._writer(split) for split in (TRAIN, VALIDATION)}

    def write(self, report: Report) -> None:
        """Writes the values that exist."""
        if report.split not in self._writers:
            self._writers[report.split] = self._writer(report.split)
        elif not (self._directory / report.split).is_dir():
            raise reports.gone(self._directory / report.split)
        writer = self._writers[report.split]
        with writer.as_default(step=scalars.int64(report.step)):
            for name, value in report.values.items():
                if value is not None:
                    tf.summary.scalar(tag(name), scalars.float64(value))  # float32 overflows
        writer.flush()

    def describe(self, config: Mapping[str, Any]) -> None:
        """Writes a configuration as text, and its hyperparameters beside the values of validation."""
        with self._writers[TRAIN].as_default(step=scalars.int64(0)):
            tf.summary.text("configuration", f"```json\n{json.dumps(config, indent=2)}\n```")
        with self._writers[VALIDATION].as_default(step=scalars.int64(0)):
            hyperparameters.hparams(hyperparameters_of(config))

    def show(self, name: str, picture: np.ndarray, step: int) -> None:
        """Writes a picture, (height, width, 3) uint8."""
        with self._writers[TRAIN].as_default(step=scalars.int64(step)):
            tf.summary.image(name, picture[np.newaxis])

    def _writer(self, split: str) -> tf.summary.SummaryWriter:
        return tf.summary.create_file_writer(str(self._directory / split))

    def synced(self) -> dict[str, int]:
        """Returns the size in bytes of every event file, by its path below the directory, once it is on the disk."""
        paths = sorted(self._directory.glob(EVENTS))
        for path in paths:
            atomic_files.sync(path)
        return {str(path.relative_to(self._directory)): path.stat().st_size for path in paths}

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()


def hyperparameters_of(config: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """The settings that change what is learned, by their keys, as far as they are plain values.

    Args:
      config: a resolved configuration as nested dictionaries.
    """
    of_losses = (f"losses.{loss}.{setting}" for loss in config["losses"] for setting in _OF_LOSSES)
    wanted = (*_HYPERPARAMETERS, f"combine.{config['combine']['name']}.", *of_losses)
    groups = tuple(each for each in wanted if each.endswith("."))
    return {key: value for key, value in _leaves(config) if key in wanted or key.startswith(groups)}


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, bool | float | str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        elif isinstance(value, bool | int | float | str):
            yield f"{above}{key}", value
