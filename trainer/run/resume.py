"""The start of a new or resumed run, and the removal of what an interrupted process wrote after that point."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from trainer.common import atomic_files
from trainer.common.errors import ConfigError
from trainer.config import loading, resuming
from trainer.config.settings import Config
from trainer.distributed import replica_state
from trainer.distributed.workers import Workers
from trainer.output import checkpoint, checkpoint_tensors, history, manifest
from trainer.output import workdir as workdir_lib
from trainer.output.manifest import Manifest
from trainer.output.reports import VALIDATION
from trainer.run import initial_values, monitor, plateau
from trainer.run.experiment import Experiment
from trainer.run.initial_values import InitialValues
from trainer.run.monitor import Monitors
from trainer.step import carried
from trainer.step.values import State, Totals

_STOPPED = "hooks"  # among the monitors' states
_MODEL, _OF_REPLICAS, _WINDOW = "model", "replicas", "train_metrics"  # parts of a checkpoint
_HOST = "CPU:0"


@dataclasses.dataclass(frozen=True)
class Found:
    """The checkpoint from which a run resumes, on the chief.

    Attributes:
      folder: of the checkpoint; None where there is none.
      manifest: how the run's other files were.
      damaged: the step up to which reports in `metrics.jsonl` are not what the run wrote; None where all are.
      warnings: lines about what is damaged.
    """

    folder: pathlib.Path | None = None
    manifest: Manifest | None = None
    damaged: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """The number of steps taken; -1 where there is no checkpoint."""
        return -1 if self.folder is None else checkpoint.step_of(self.folder)


@dataclasses.dataclass(frozen=True)
class Start:
    """The point at which a run starts or resumes.

    Attributes:
      resumes: whether a run resumes, if only from its beginning.
      step: number of steps taken.
      state: what the step remembers.
      totals: of the steps since the last report.
      monitors: the state of what decides by reports; on the chief.
      stopped: why a hook stopped the run; None: none of the present hooks did. On the chief.
      initial_values: the trained values with which a new run begins (`init_from`), where there are any. On the chief.
    """

    resumes: bool
    step: int
    state: State
    totals: Totals
    monitors: Monitors
    stopped: str | None = None
    initial_values: InitialValues | None = None


def find(run: workdir_lib.Workdir, config: Config) -> Found:
    """Finds the newest good checkpoint, and what of the run's other files is not as it was then; writes nothing.

    Args:
      run: the directory of a run to resume.
      config: the configuration to resume it with.

    Raises:
      ConfigError: all checkpoints are damaged; or `config.json` or `data.json` are, on which all of them rely.
    """
    warnings: list[str] = []
    folder = checkpoint.newest_good(run.checkpoints, warnings.append)
    if folder is None:
        return Found()
    saved, step = manifest.read(folder), checkpoint.step_of(folder)
    refuse_damage(run, config, folder, saved)
    damaged = saved.damaged if history.begins_with(run.metrics, saved.reports) else step
    if damaged is not None:
        warnings.append(
            f"{run.shown / run.metrics.name}: reports up to step {damaged} are not what the run wrote; best and "
            "early_stopping are decided as without the damage"
        )
    for name in history.damaged_events(run.tensorboard, saved.events):
        warnings.append(f"{run.shown / run.tensorboard.name / name} is not what the run wrote up to step {step}")
    return Found(folder, saved, damaged, tuple(warnings))


def refuse_damage(run: workdir_lib.Workdir, config: Config, folder: pathlib.Path, saved: Manifest) -> None:
    """Raises ConfigError where a run's configuration or `data.json` are not those with which a checkpoint was made.

    Args:
      run: the directory of the run.
      config: what `config.json` says; one that may follow it.
      folder: of the checkpoint.
      saved: its manifest.
    """
    different = resuming.differences(loading.resolve_saved(saved.config), config)
    if different:
        reason = f"is not the configuration with which {folder.name} was saved: {'; '.join(different)}"
    elif not run.data.is_file():
        reason = "is missing"
    elif atomic_files.checksum(run.data) != saved.data:
        reason = f"does not have the checksum that {folder.name} holds of it"
    else:
        return
    file = run.config if different else run.data
    raise ConfigError("--workdir", str(run.shown), f"its {file.name} {reason}; put it back or start a new run")


def start(
    run: workdir_lib.Workdir | None,
    found: Found,
    step: int,
    built: Experiment,
    workers: Workers,
    base: pathlib.Path,
) -> Start:
    """Reads a resumed run's checkpoint, or what a new one begins with, into every worker's variables; writes nothing.

    Args:
      run: on the chief, the directory of a run to resume; None for a new one, and on other workers.
      found: on the chief, its checkpoint.
      step: the checkpoint's, on every worker; -1 where there is none.
      built: the experiment.
      workers: who takes part; all of them call this.
      base: the directory that a relative path of `init_from` is in.

    Raises:
      ConfigError: the checkpoint or what `init_from` names does not fit, the run has taken more steps than it is to
        have, or a monitor has changed that would have to know reports which are damaged.
    """
    state, totals = built.step.initial_state(), built.step.initial_totals()
    monitors = built.monitors
    if built.train_metrics is not None:
        built.train_metrics.clear()
    if step < 0:
        plateau.restore(built, 0, workers)
        taken = initial_values.take(built.config.init_from, built, workers, base) if built.config.init_from else None
        return Start(run is not None, 0, state, totals, monitors, initial_values=taken)
    if step > built.timeline.steps:
        where = f" in {run.shown}" if run else ""
        raise ConfigError("steps", built.config.steps, f"the run{where} has taken {step} steps already")
    parts = everything(built, state, totals)
    if run is not None:
        reports = None if found.damaged is not None else history.Reports(run.metrics, found.manifest.reports.size)
        monitors = monitor.resume(monitors, found.manifest.monitors, reports, built.watched)
        checkpoint.restore(found.folder, _held(found.folder, parts))
    workers.broadcast_variables(parts)
    plateau.restore(built, monitors.reductions, workers)
    _restore_replicas(found.folder, built, workers)
    _restore_window(found.folder, built, workers)
    state, totals = built.step.restored(parts)
    return Start(True, step, state, totals, monitors, None if run is None else _stopped(found.manifest, built.config))


def _held(folder: pathlib.Path, parts: checkpoint.State) -> checkpoint.State:
    """The parts without the sums of cosines where a checkpoint of an earlier version has none; they begin at zero."""
    since_report = parts[carried.SINCE_REPORT]
    if checkpoint.held(folder, {carried.SINCE_REPORT: {name: since_report[name] for name in carried.COSINES}}):
        return parts
    earlier = {name: variable for name, variable in since_report.items() if name not in carried.COSINES}
    return {**parts, carried.SINCE_REPORT: earlier}


def decisions(monitors: Monitors, stopped: str | None) -> dict[str, Any]:
    """Returns what a checkpoint holds of the decisions that the run has taken: `Start.monitors` and `Start.stopped`."""
    return {**monitors.saved(), _STOPPED: stopped}


def _stopped(saved: Manifest, config: Config) -> str | None:
    """Why a hook stopped the run; with other hooks it continues."""
    return saved.monitors.get(_STOPPED) if loading.resolve_saved(saved.config).hooks == config.hooks else None


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


def to_save(
    built: Experiment,
    state: State,
    totals: Totals,
    of_replicas: Mapping[str, tf.Tensor],
    window: Mapping[str, tf.Variable],
) -> checkpoint.State:
    """Everything for a checkpoint: the model with the average over replicas, and apart what each keeps for itself.

    The latter only of variables that differ between replicas; `of_replicas` are the values of `LayerState`, `window`
    those of `TrainMetrics`.
    """
    parts = everything(built, state, totals) | ({_WINDOW: window} if window else {})
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


def _restore_window(folder: pathlib.Path | None, built: Experiment, workers: Workers) -> None:
    """Gives every replica what it had added to the metrics of training; `folder` is that of `_restore_replicas`."""
    if built.train_metrics is None:
        return
    own = built.train_metrics.of_replicas()
    if folder is not None:
        own = built.train_metrics.restored(checkpoint_tensors.values(folder, _WINDOW, own))
    workers.broadcast_variables({_WINDOW: own})
    built.train_metrics.assign(own)


def rewind(run: workdir_lib.Workdir, config: Config, found: Found) -> int | None:
    """Removes what an interrupted process wrote after the checkpoint.

    Returns:
      The step of the last report that stays, where that is an evaluation; else None.
    """
    if loading.load_saved(run.config) != config:  # an interval may have changed
        loading.save(config, run.config)
    # Any of these may be interrupted: the next process does again what is left of it.
    checkpoint.remove_incomplete(run.checkpoints)
    checkpoint.set_aside(run.checkpoints, newer_than=found.step)
    history.rewind(run.metrics, run.tensorboard, found.step, found.manifest)
    last = history.last(run.metrics)
    return last.step if last is not None and last.split == VALIDATION else None
