"""A training run from its configuration to its results: what is done in which order, on one worker or several."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
from rich.console import Console

from input_pipelines import data as data_lib
from trainer.common import atomic_files
from trainer.common.errors import ConfigError
from trainer.config.settings import Config
from trainer.distributed import signals
from trainer.distributed.watchdog import START_SECONDS, Watchdog
from trainer.distributed.workers import Workers
from trainer.output import profiling, results, summary, writer
from trainer.output import workdir as workdir_lib
from trainer.output.history import Reports
from trainer.output.recorder import Files, Recorder
from trainer.output.reports import Report
from trainer.output.workdir import Workdir
from trainer.run import agreement, experiment, failures, loop, overview, resume
from trainer.run.experiment import Experiment
from trainer.run.loop import Loop
from trainer.run.resume import Found, Start
from trainer.step.values import State, Totals


def train(
    config: Config,
    workdir: str | None,
    strategy: tf.distribute.Strategy,
    console: Console | None = None,
    profile: tuple[int, int] | None = None,
    watchdog: Watchdog | None = None,
) -> Sequence[Report]:
    """Trains to the last step: from the first, or from the newest good checkpoint of the run that `workdir` holds.

    Every worker calls this with the same arguments; the chief alone uses `workdir`, and tells the others what it holds.

    Args:
      config: the resolved configuration.
      workdir: directory of the run, made once all is known to fit; None for a new dated one under `runs/`.
      strategy: where to run.
      console: where to show progress; default standard output.
      profile: first and last step to profile, counted from 1; None profiles nothing.
      watchdog: is notified of what the process does.

    Returns:
      Every report of the run, read from its `metrics.jsonl`, the final evaluation last; beside the chief none.

    Raises:
      ConfigError: something in the configuration or the workdir cannot be used; nothing was written.
      RunError: something became non-finite, cannot be computed or written, or a worker is gone; the workdir is kept.
      StoppedError: a signal asked one of the workers to stop; everything is saved.
    """
    workers, watchdog = Workers(strategy), watchdog or Watchdog(None, "")
    # The directory comes first: from here on no other process can resume this run.
    run = workdir_lib.claim(workdir, config) if workers.is_chief else None
    watchdog.log = run and run.log
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: run and run.release())  # last of all, also of a directory that is made below
        stack.enter_context(workers.watched())
        if workers.count > 1:
            # Whoever asks one worker to stop means all of them, and they can agree only once they take steps.
            request = stack.enter_context(signals.listening())
        watchdog.doing("reading the data and building the model", at_least=START_SECONDS)
        found, step, built = _built(config, strategy, workers, run, workdir, profile)
        watchdog.doing("reading the checkpoint", at_least=START_SECONDS)
        start = resume.start(run, found, step, built, workers)
        boundaries = profiling.boundaries(profile, first=start.step, last=built.timeline.steps)
        iterator = iter(built.batches(first_step=start.step))
        calls = _traced(built, iterator, start)
        # Only now: what cannot be built or traced leaves nothing behind, except the lock in a run that was there.
        if workers.is_chief and run is None:
            run = workdir_lib.create(workdir, config)
        watchdog.log = run and run.log
        if run and found.folder is None:
            data_lib.save(built.data.saved, run.data)
        stack.enter_context(writer.disk_errors())
        evaluated = resume.rewind(run, config, found) if run and start.resumes else None  # before files are opened
        with _recorder(run, built, start.step, found.damaged, boundaries, console) as recorder:
            if workers.count == 1:
                request = stack.enter_context(signals.listening())  # before, there is nothing to save
            with workers.watched():  # so that the reason reaches the log
                steps = Loop(built, workers, watchdog, recorder, request, start.monitors, evaluated, *calls, boundaries)
                _take_steps(steps, run, start, found.warnings, iterator, console)
    return Reports(run.metrics) if run else ()


def _built(
    config: Config,
    strategy: tf.distribute.Strategy,
    workers: Workers,
    run: Workdir | None,
    workdir: str | None,
    profile: tuple[int, int] | None,
) -> tuple[Found, int, Experiment]:
    """Builds the experiment, the same on all workers.

    Returns:
      The checkpoint from which the run resumes, on the chief; its step, -1 where there is none; the experiment.

    Raises:
      ConfigError: the experiment cannot be built, its data are not those with which the run began, or this worker is
        not like the chief.
    """
    found = resume.find(run, config) if run else Found()
    # Workers agree before they build: one that is not like the others would wait for them in its first collective.
    saved = agreement.on_start(config, profile, data_lib.load_saved(run.data) if run else None, workers)
    step = workers.broadcast_number(found.step)
    # Nothing relies on what was learned before the first checkpoint, and no checksum tells whether it is intact.
    built = experiment.build(config, strategy, saved if step >= 0 else None)
    if run and built.draws:
        workdir_lib.refuse_other_draws(run, config)
    if saved is not None and (changed := data_lib.changes(saved, built.data.saved)):
        reason = f"{'; '.join(changed)}; put the data back or start a new run"
        raise ConfigError("--workdir", str(run.path) if run else workdir, reason)
    agreement.on_data(built.data.saved, workers)
    return found, step, built


def _traced(
    built: Experiment, iterator: Iterator, start: Start
) -> tuple[Callable[..., tuple[State, Totals]], Callable[[int], dict[str, float | None]]]:
    """The in-graph loop over steps and the evaluation; raises ConfigError where one of them cannot be traced."""
    with failures.tracing():
        train_steps, evaluate = built.step.build(), built.evaluator.build()
        train_steps.get_concrete_function(iterator, *loop.arguments(0, 0, False), start.state, start.totals)
    return train_steps, evaluate


def _recorder(
    run: Workdir | None,
    built: Experiment,
    first: int,
    damaged: int | None,
    boundaries: tuple[int, ...],
    console: Console | None,
) -> Recorder:
    if run is None:
        return Recorder()
    return Files(
        run,
        first=first,
        steps=built.timeline.steps,
        heads=built.heads,
        keep=built.config.keep_checkpoints,
        boundaries=boundaries,
        config=dataclasses.asdict(built.config),
        data=atomic_files.checksum(run.data),
        damaged=damaged,
        console=console,
    )


def _take_steps(
    steps: Loop, run: Workdir | None, start: Start, warnings: Sequence[str], iterator: Iterator, console: Console | None
) -> None:
    """Says what is to come, takes the steps, writes the results."""
    built, workers, recorder = steps.built, steps.workers, steps.recorder
    for warning in (*built.notes, *warnings):
        recorder.say(f"warning: {warning}")
    if run:
        first = f"from step {start.step} of " if start.resumes else ""
        where, how = _devices(built.strategy, workers), results.combination(built.config)
        recorder.say(f"{run.path}: {first}{built.timeline.steps} steps on {where}, {how}")
        for line in summary.lines(overview.of(built)):
            recorder.say(f"  {line}")
    end = steps.run(start, iterator)
    steps.watchdog.doing("writing the results")
    recorder.wait()  # an error of the disk ends the run before it says that it is done
    if run:
        if end.is_early:
            patience = built.early_stopping.patience
            recorder.say(f"stopped early at step {end.step}: {patience} evaluations without improvement")
        results.write(run, Reports(run.metrics), built.config, built.heads, built.notes, console)
        recorder.say(f"{run.path}: report.md, curves.png, metrics.jsonl; tensorboard --logdir {run.path}")
    workers.barrier()  # a worker that left early would look like one that is lost


def _devices(strategy: tf.distribute.Strategy, workers: Workers) -> str:
    count = strategy.num_replicas_in_sync
    kind = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0]).device_type
    on = f" of {workers.count} workers" if workers.count > 1 else ""
    return f"{count} {kind}{' replicas' if count > 1 else ''}{on}"
