"""The start of a new or resumed run, and the removal of what an interrupted process wrote after that point."""

import dataclasses
import pathlib
from collections.abc import Mapping

import tensorflow as tf

from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.config.settings import Config
from trainer.distributed import replica_state
from trainer.distributed.workers import Workers
from trainer.output import checkpoint
from trainer.output import history as history_lib
from trainer.output import workdir as workdir_lib
from trainer.output.reports import Report
from trainer.run.experiment import Experiment
from trainer.step.values import State, Totals

_MODEL, _OF_REPLICAS = "model", "replicas"  # parts of a checkpoint
_HOST = "CPU:0"


@dataclasses.dataclass(frozen=True)
class Start:
    """The point at which a run starts or resumes.

    Attributes:
      resumes: whether a run resumes, if only from its beginning.
      step: number of steps taken.
      state: what the step remembers.
      totals: of the steps since the last report.
      warnings: lines about checkpoints that could not be used.
    """

    resumes: bool
    step: int
    state: State
    totals: Totals
    warnings: tuple[str, ...] = ()


def start(run: workdir_lib.Workdir | None, built: Experiment, workers: Workers) -> Start:
    """Reads the newest good checkpoint of a resumed run into every worker's variables; writes nothing.

    Args:
      run: on the chief, the directory of a run to resume; None for a new one, and on other workers.
      built: the experiment.
      workers: who takes part; all of them call this.

    Raises:
      ConfigError: no checkpoint can be used, or the run has taken more steps than it is to have.
    """
    warnings: list[str] = []
    folder = checkpoint.newest_good(run.checkpoints, warnings.append) if run else None
    step = workers.broadcast_number(-1 if folder is None else checkpoint.step_of(folder))
    state, totals = built.step.initial_state(), built.step.initial_totals()
    if step < 0:
        return Start(run is not None, 0, state, totals, tuple(warnings))
    if step > built.timeline.steps:
        where = f" in {run.shown}" if run else ""
        raise ConfigError("steps", built.config.steps, f"the run{where} has taken {step} steps already")
    parts = everything(built, state, totals)
    if folder is not None:
        checkpoint.restore(folder, parts)
    workers.broadcast_variables(parts)
    _restore_replicas(folder, built, workers)
    state, totals = built.step.restored(parts)
    return Start(True, step, state, totals, tuple(warnings))


def everything(built: Experiment, state: State, totals: Totals) -> checkpoint.State:
    """Everything that a checkpoint must hold for a run to resume as if it had not been interrupted."""
    parts = checkpoint.state_of(built.model, built.optimizer_groups)
    return parts | built.step.checkpointed(state, totals)


def replicated(built: Experiment) -> dict[str, tf.Variable]:
    """The variables that are the same on every replica: all but those that layers change by themselves, by names."""
    parts = checkpoint.state_of(built.model, built.optimizer_groups) | built.step.updates.checkpointed()
    return {
        name if part == _MODEL else f"{part}/{name}": variable
        for part, variables in parts.items()
        for name, variable in variables.items()
        if part != _MODEL or variable.trainable  # as it was made: also where its layer is frozen
    }


def to_save(built: Experiment, state: State, totals: Totals, of_replicas: Mapping[str, tf.Tensor]) -> checkpoint.State:
    """Everything for a checkpoint: the model with the average over replicas, and apart what each keeps for itself.

    The latter only of variables that differ between replicas; `of_replicas` are the values of `LayerState`.
    """
    parts = everything(built, state, totals)
    differing = {name: values for name, values in of_replicas.items() if len({*map(_bits, values)}) > 1}
    if not differing:
        return parts
    with tf.device(_HOST):
        averages = {name: tf.Variable(replica_state.average(values)) for name, values in differing.items()}
        own = {name: tf.Variable(values) for name, values in differing.items()}
    return parts | {_MODEL: {**parts[_MODEL], **averages}, _OF_REPLICAS: own}


def _bits(value: tf.Tensor) -> bytes:
    return value.numpy().tobytes()


def _restore_replicas(folder: pathlib.Path | None, built: Experiment, workers: Workers) -> None:
    """Gives every replica what it had for itself; all keep the average where the checkpoint is of another number.

    The model holds the average on all replicas already; `folder` is None on all workers but the chief.
    """
    with tf.device(_HOST):
        own = {name: tf.Variable(values) for name, values in built.layer_state.of_replicas().items()}
    if folder is not None and (held := checkpoint.held(folder, {_OF_REPLICAS: own})):
        checkpoint.restore(folder, held)
    workers.broadcast_variables({_OF_REPLICAS: own})
    built.layer_state.assign({name: tf.convert_to_tensor(variable) for name, variable in own.items()})


def rewind(run: workdir_lib.Workdir, config: Config, step: int) -> list[Report]:
    """Removes what an interrupted process wrote after `step`; returns the reports that stay."""
    if loading.load_saved(run.config) != config:  # an interval may have changed
        loading.save(config, run.config)
    # Any of these may be interrupted: the next process does again what is left of it.
    checkpoint.remove_incomplete(run.checkpoints)
    checkpoint.set_aside(run.checkpoints, newer_than=step)
    return history_lib.rewind(run.metrics, run.tensorboard, step)
