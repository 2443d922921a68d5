"""The network of a run that is there, without optimizers and steps: to predict with it, to evaluate or to export it."""

import dataclasses
import pathlib
from collections.abc import Callable

import keras
import tensorflow as tf
from absl import logging

from input_pipelines import kept_data, saved_data
from input_pipelines.configuration import TRAIN
from input_pipelines.kept_data import KeptData
from trainer.common.errors import ConfigError
from trainer.common.trust import NOBODY, Trust
from trainer.config import loading
from trainer.config.settings import Config
from trainer.output import checkpoint, chosen, manifest
from trainer.output.workdir import Workdir
from trainer.run import network as network_lib
from trainer.run import resume
from trainer.run.network import Network
from trainer.step.update import AVERAGE

_TRIES = 5  # a run that is training saves less often than a checkpoint is read


@dataclasses.dataclass(frozen=True)
class Restored:
    """A run's network with the variables of a checkpoint.

    Attributes:
      config: the resolved configuration.
      strategy: where its variables are.
      network: model, losses and metrics.
      kept: what the run keeps of its data.
      folder: of the checkpoint.
    """

    config: Config
    strategy: tf.distribute.Strategy
    network: Network
    kept: KeptData
    folder: pathlib.Path

    @property
    def model(self) -> keras.Model:
        """The model."""
        return self.network.model

    @property
    def step(self) -> int:
        """The number of steps after which the checkpoint was saved."""
        return checkpoint.step_of(self.folder)


def build(
    config: Config,
    workdir: Workdir,
    strategy: tf.distribute.Strategy,
    trust: Trust = NOBODY,
    *,
    best: bool = False,
    averaged: bool = True,
) -> Restored:
    """Builds a run's network and reads a checkpoint into it; of data in files nothing is read.

    Args:
      config: the run's configuration.
      workdir: the run, which may be training meanwhile.
      strategy: the devices.
      trust: whose code may be called where the data name it.
      best: whether to take the best checkpoint instead of the last one.
      averaged: whether variables are their moving averages, where the run keeps them.

    Raises:
      ConfigError: there is no such checkpoint, it does not fit, or what it relies on is damaged.
    """
    workdir = workdir.absolute()
    folder = read(workdir, lambda folder: refuse_damage(workdir, folder), best=best)
    saved = saved_data.load_saved(workdir.data)
    if saved is None:
        raise ConfigError("--workdir", str(workdir.shown), f"has lost its {workdir.data.name}")
    network_lib.set_arithmetic(config.precision, config.tensor_float_32, config.deterministic, strategy)
    segments = None if config.segments is None else config.segments.by
    kept = kept_data.read(config.dataset, saved, trust, segments)
    spec = network_lib.batch_spec(kept.data.splits[TRAIN], 1)
    network = network_lib.build(config.model, config.losses, config.metrics, config.seed, spec, kept.data, strategy)
    variables = {"model": checkpoint.model_state(network.model)}

    def restore(folder: pathlib.Path) -> None:
        checkpoint.restore(folder, variables)
        if averaged:
            checkpoint.restore(folder, checkpoint.held(folder, {AVERAGE: variables["model"]}))

    return Restored(config, strategy, network, kept, read(workdir, restore, folder, best=best))


def refuse_damage(workdir: Workdir, folder: pathlib.Path) -> None:
    """Raises ConfigError where what a checkpoint relies on is not as it was when that was saved."""
    resume.refuse_damage(workdir, loading.load_saved(workdir.config), folder, manifest.read(folder))


def read(
    workdir: Workdir,
    of_checkpoint: Callable[[pathlib.Path], None],
    folder: pathlib.Path | None = None,
    *,
    best: bool = False,
) -> pathlib.Path:
    """Calls a function with a checkpoint, and with another one where that is removed meanwhile; returns which it was.

    Args:
      workdir: the run.
      of_checkpoint: reads a checkpoint.
      folder: of the checkpoint to begin with; None: the one that is asked for.
      best: whether the best one is asked for, not the last.
    """
    for _ in range(_TRIES):
        folder = folder or chosen.checkpoint_of(workdir, best=best, warn=logging.warning)
        try:
            of_checkpoint(folder)
            return folder
        except (ConfigError, FileNotFoundError):
            if folder.exists():
                raise
        folder = None
    raise ConfigError("--workdir", str(workdir.shown), "holds no checkpoint yet")
