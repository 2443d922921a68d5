"""A training run from its configuration to its results: what is done in which order, on one worker or several."""

import contextlib
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from rich.console import Console

from input_pipelines import saved_data
from trainer.common import atomic_files, schema, streams
from trainer.common.errors import ConfigError
from trainer.common.trust import NOBODY, Trust
from trainer.config import monitors
from trainer.config.settings import Config
from trainer.distributed import signals
from trainer.distributed.watchdog import START_SECONDS, Watchdog
from trainer.distributed.workers import Workers
from trainer.evaluation.evaluator import Evaluate
from trainer.output import final_report, memory, new_names, profiling, results, speed, summary, writer
from trainer.output import workdir as workdir_lib
from trainer.output.final_report import About
from trainer.output.history import Reports
from trainer.output.recorder import Files, Recorder
from trainer.output.reports import Report
from trainer.output.speed import Stopwatch
from trainer.output.workdir import Workdir
from trainer.run import agreement, at_end, compile_choice, experiment, failures, following, loggers, loop, resume
from trainer.run import overview as overview_lib
from trainer.run.experiment import Experiment
from trainer.run.following import Loaded
from trainer.run.hooks import Hook
from trainer.run.loop import Loop
from trainer.run.resume import Found, Start
from trainer.step.in_graph_loop import Train


class Origin(NamedTuple):
    """The request that a run comes from.

    Attributes:
      name: of its configuration, for the name of a new directory; empty: it has none.
      command: the one that repeats it, in a new directory; empty: there is none.
    """

    name: str = ""
    command: str = ""


UNKNOWN = Origin()


def train(
    config: Config,
    workdir: str | None,
    strategy: tf.distribute.Strategy,
    console: Console | None = None,
    profile: tuple[int, int] | None = None,
    watchdog: Watchdog | None = None,
    trust: Trust = NOBODY,
    base: pathlib.Path | None = None,
    hooks: Sequence[Hook] = (),
    origin: Origin = UNKNOWN,
) -> Sequence[Report]:
    """Trains to the last step: from the first, or from the newest good checkpoint of the run that `workdir` holds.

    Args:
      config: the resolved configuration. Every worker is called with the same arguments.
      workdir: directory of the run, of the chief alone, made once all is known to fit; None for a new one in `runs/`.
      strategy: where to run.
      console: where to show progress; default standard output.
      profile: first and last step to profile, counted from 1; None profiles nothing.
      watchdog: is notified of what the process does.
      trust: whose code may be called where the data name it.
      base: where a relative `workdir` is; None for the current directory.
      hooks: called after those of the configuration, which does not hold them; the same on all workers.
      origin: what the run was asked for with.

    Returns:
      Every report of the run, read from its `metrics.jsonl`, evaluations at the end last; beside the chief none.

    Raises:
      ConfigError: something in the configuration or the workdir cannot be used; nothing was written.
      RunError: something became non-finite, cannot be computed or written, or a worker is gone; the workdir is kept.
      StoppedError: a signal asked one of the workers to stop; everything is saved.
    """
    stopwatch = Stopwatch(memory.used)
    workers, watchdog, base = Workers(strategy), watchdog or Watchdog(None, ""), base or workdir_lib.current()
    run = workdir_lib.claim(workdir, config, base) if workers.is_chief else None  # first: now nobody else can resume it
    watchdog.log = run and run.log
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: run and run.release())  # last of all, also of a directory that is made below
        stack.enter_context(workers.watched())
        request = stack.enter_context(signals.listening()) if workers.count > 1 else None  # they agree in their steps
        found, step, built, loaded = _built(config, strategy, workers, watchdog, run, workdir, profile, trust, hooks)
        built, choice, train_steps = compile_choice.of_run(built, run, workers, watchdog, console)
        watchdog.doing("reading the checkpoint", at_least=START_SECONDS)
        start = resume.start(run, found, step, built, workers, base)
        boundaries = profiling.boundaries(profile, first=start.step, last=built.timeline.steps)
        source = built.source(first_step=start.step)
        calls = (*_traced(built, source, start, workers, train_steps), boundaries)
        stack.enter_context(writer.disk_errors())
        if workers.is_chief and run is None:  # only now: what cannot be traced leaves nothing behind but a run's lock
            run = workdir_lib.create(workdir, built.config, base, new_names.label(origin.name, config))
        watchdog.log, evaluated = run and run.log, _prepared(run, built, found, start)  # no file is open
        with _recorder(run, built, start.step, found.damaged, boundaries, console) as recorder:
            request = request or stack.enter_context(signals.listening())  # before, there is nothing to save
            with workers.watched(), following.started(loaded, run, built, start, recorder, workers) as followers:
                shown = (watchdog, recorder, stopwatch)
                steps = Loop(built, workers, *shown, request, start.monitors, evaluated, *calls, *followers)
                _take_steps(steps, run, start, found.warnings, choice, source, console, origin)
    return Reports(run.metrics) if run else ()


def _built(
    config: Config,
    strategy: tf.distribute.Strategy,
    workers: Workers,
    watchdog: Watchdog,
    run: Workdir | None,
    workdir: str | None,
    profile: tuple[int, int] | None,
    trust: Trust,
    hooks: Sequence[Hook],
) -> tuple[Found, int, Experiment, Loaded]:
    """Builds the experiment, the same on all workers.

    Returns:
      The checkpoint from which the run resumes, on the chief; its step, -1 where there is none; the experiment; its
      hooks and loggers.

    Raises:
      ConfigError: the experiment cannot be built, its data are not those with which the run began, or this worker is
        not like the chief.
    """
    watchdog.doing("reading the data and building the model", at_least=START_SECONDS)
    found = resume.find(run, config) if run else Found()
    # Workers agree before they build: one that is not like the others would wait for them in its first collective.
    saved = agreement.on_start(config, profile, saved_data.load_saved(run.data) if run else None, workers)
    step = workers.broadcast_number(found.step)
    # Nothing relies on what was learned before the first checkpoint, and no checksum tells whether it is intact.
    built = experiment.build(config, strategy, saved if step >= 0 else None, trust)
    loaded = following.load(config, workers, hooks)
    if saved is not None and (changed := saved_data.changes(saved, built.data.saved)):
        reason = f"{'; '.join(changed)}; put the data back or start a new run"
        raise ConfigError("--workdir", str(run.shown) if run else workdir, reason)
    agreement.on_code(workers)  # with what was imported to build it
    agreement.on_data(built.data.saved, workers)
    return found, step, built, loaded


def _traced(
    built: Experiment, source: Any, start: Start, workers: Workers, train_steps: Train | None = None
) -> tuple[Train, Evaluate]:
    """The in-graph loop over steps, `train_steps` where it is traced already, and the evaluation.

    Raises:
      ConfigError: one of them cannot be traced, or this worker has come to load other code than another one.
    """
    with failures.tracing():
        train_steps, evaluate = train_steps or built.step.build(), built.evaluator.build()
        train_steps.get_concrete_function(source, *loop.arguments(0, 0, False), start.state, start.totals)
    streams.occupy()  # a user's code may have closed one, and no file may take its place
    agreement.on_code(workers)  # also what a model or a loss imports when it is called
    return train_steps, evaluate


def _prepared(run: Workdir | None, built: Experiment, found: Found, start: Start) -> int | None:
    """Saves what a run keeps of its data, or takes back what an interrupted one wrote after its checkpoint.

    Returns:
      The step of the last report that stays, where that is an evaluation; else None.
    """
    if run is None:
        return None
    if found.folder is None:
        saved_data.save(built.data.saved, run.data)
        if start.initial_values is not None:
            start.initial_values.save(run.initial_values)
    return resume.rewind(run, built.config, found) if start.resumes else None


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
        config=schema.as_dict(built.config),
        data=atomic_files.checksum(run.data),
        damaged=damaged,
        console=console,
    )


def _take_steps(
    steps: Loop,
    run: Workdir | None,
    start: Start,
    warnings: Sequence[str],
    choice: Sequence[str],
    source: Any,
    console: Console | None,
    origin: Origin,
) -> None:
    """Says what is to come, takes the steps, writes the results."""
    built, workers, recorder = steps.built, steps.workers, steps.recorder
    for warning in (*built.notes, *warnings):
        recorder.say(f"warning: {warning}")
    if run:
        first = f"from step {start.step} of " if start.resumes else ""
        where, how = _devices(built.strategy, workers), final_report.combination(built.config)
        recorder.say(f"{run.shown}: {first}{built.timeline.steps} steps on {where}, {how}")
        for line in choice:
            recorder.say(f"  {line}")
        if discarded := built.discarded(start.step):
            recorder.say(f"  to get there, {discarded:,} training examples are read and thrown away")
        for line in summary.lines(overview_lib.of(built)):
            recorder.say(f"  {line}")
        for line in start.initial_values.lines() if start.initial_values is not None else ():
            recorder.say(f"  {line}")
    end = steps.run(start, source)
    at_end.evaluate(steps, run, end)
    steps.watchdog.doing("writing the results")
    with steps.stopwatch.within(speed.SAVING):
        recorder.wait()  # an error of the disk ends the run before it says that it is done
    recorder.finish(steps.stopwatch.lap(end.step, built.config.batch_size))
    if run:
        if end.is_early:
            recorder.say(f"stopped early at step {end.step}: {_why_early(steps)}")
        about = About(
            built.heads,
            _directions(built),
            summary.parameters(overview_lib.of(built)),
            origin.command,
            built.notes,
        )
        lines, cosines = results.write(run, built.config, about, best=steps.monitors.best_step, console=console)
        recorder.show_cosines(cosines, end.step)
        for line in lines:
            recorder.say(line)
        recorder.say(f"{run.shown}: report.md, report.html, curves.png; tensorboard --logdir {run.shown}")
    steps.call_hooks_at_end(following.last_validation(run) if run and steps.hooks.exist else None)
    early = _why_early(steps) if end.is_early and run else ""
    steps.loggers.finish(loggers.STOPPED if early else loggers.FINISHED, early)
    workers.barrier()  # a worker that left early would look like one that is lost


def _directions(built: Experiment) -> dict[str, str | None]:
    """Name of a validation value → the direction of better ones; what a monitor watches goes by its `mode`."""
    watched = (own.config for own in built.monitors if own is not None)
    modes = {monitors.reported_name(each.metric): "up" if each.mode == "max" else "down" for each in watched}
    return built.evaluator.directions() | modes


def _why_early(steps: Loop) -> str:
    """The reason why a run has ended before its last step; on the chief."""
    return (
        steps.hooks.stopped or f"{steps.built.monitors.early_stopping.config.patience} evaluations without improvement"
    )


def _devices(strategy: tf.distribute.Strategy, workers: Workers) -> str:
    count = strategy.num_replicas_in_sync
    kind = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0]).device_type
    on = f" of {workers.count} workers" if workers.count > 1 else ""
    return f"{count} {kind}{' replicas' if count > 1 else ''}{on}"
