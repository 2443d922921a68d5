"""The run: steps, reports, evaluations and checkpoints; going on where an earlier process was interrupted."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
from absl import logging
from rich.console import Console

from input_pipelines import data as data_lib
from trainer.common import import_paths
from trainer.common.errors import ConfigError, LogarithmError, NonFiniteError, RunError, StoppedError, reason_of
from trainer.components import optimizers
from trainer.config import loading
from trainer.config.settings import Config
from trainer.distributed import replica_state, signals
from trainer.distributed.signals import StopRequest
from trainer.distributed.watchdog import START_SECONDS, Watchdog
from trainer.distributed.workers import Workers
from trainer.output import checkpoint, plots, profiling, reports, terminal, writer
from trainer.output import history as history_lib
from trainer.output import workdir as workdir_lib
from trainer.output.recorder import Files, Recorder
from trainer.output.reports import VALIDATION, Report
from trainer.run import agreement, experiment, monitor
from trainer.run.experiment import Experiment
from trainer.step.values import State, Totals

# Parts of a checkpoint beside the model and the optimizers.
_SINCE_REPORT, _REMEMBERED, _AVERAGE, _MOVING_ROWS = "since_report", "step", "average", "moving_rows"
_OF_TOTALS = ("losses", "counts", "fallbacks")  # what of the totals a report reads that later steps do not set


def train(
    config: Config,
    workdir: str | None,
    strategy: tf.distribute.Strategy,
    console: Console | None = None,
    profile: tuple[int, int] | None = None,
    watchdog: Watchdog | None = None,
) -> list[Report]:
    """Trains to the last step: from the first, or from the newest good checkpoint of the run that `workdir` holds.

    Every worker calls this with the same arguments. The chief alone uses `workdir`; what it finds there it tells the
    others.

    Args:
      config: the resolved configuration.
      workdir: directory of the run; None for a new dated one under `runs/`. A new one is made only once everything is
        known to fit.
      strategy: where to run.
      console: where to show progress; default standard output.
      profile: first and last step to profile, counted from 1; None profiles nothing.
      watchdog: hears what is being done.

    Returns:
      Every report of the run, as in `metrics.jsonl`; the last one is the final evaluation. On workers other than the
      chief, those of this process.

    Raises:
      ConfigError: something in the configuration or the workdir cannot be used; nothing was written.
      RunError: a loss or gradient became non-finite, a step failed, another worker is gone, or something cannot be
        written; the workdir is kept.
      StoppedError: a signal asked one of the workers to stop; everything is saved.
    """
    workers, watchdog = Workers(strategy), watchdog or Watchdog(None, "")
    run = workdir_lib.claim(workdir, config) if workers.is_chief else None
    watchdog.log = run and run.log
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: run and run.release())
        stack.enter_context(workers.watched())
        if workers.count > 1:
            # Whoever asks one worker to stop means all of them, and they can agree only once they take steps.
            request = stack.enter_context(signals.listening())
        watchdog.doing("reading the data and building the model", at_least=START_SECONDS)
        saved = agreement.on_start(config, profile, data_lib.load_saved(run.data) if run else None, workers)
        built = experiment.build(config, strategy, saved)
        if saved is not None and (changed := data_lib.changes(saved, built.data.saved)):
            reason = f"{'; '.join(changed)}; put the data back or start a new run"
            raise ConfigError("--workdir", str(run.path) if run else workdir, reason)
        agreement.on_data(built.data.saved, workers)
        watchdog.doing("reading the checkpoint", at_least=START_SECONDS)
        start = _start(run, built, workers)
        marks = profiling.marks(profile, first=start.step, last=built.steps)
        iterator = iter(built.batches(first_step=start.step))
        with _building():
            # Traced before the directory is made, so that whatever cannot be traced leaves none behind.
            train_steps, evaluate = built.step.build(), built.evaluator.build()
            train_steps.get_concrete_function(
                iterator, _int64(0), _int64(0), tf.constant(False), start.state, start.totals
            )
        if workers.is_chief and run is None:
            run = workdir_lib.create(workdir, config)
            watchdog.log = run.log
        if run and saved is None:
            data_lib.save(built.data.saved, run.data)
        stack.enter_context(writer.disk_errors())
        history = _rewind(run, config, start.step) if run and start.goes_on else []
        recorder = _recorder(run, built, start.step, marks, console)
        with recorder:
            if workers.count == 1:
                request = stack.enter_context(signals.listening())
            with workers.watched():  # so that the reason reaches the log
                training = _Training(built, workers, watchdog, recorder, request, history, train_steps, evaluate, marks)
                training.run(run, start, iterator, console)
    return history


@dataclasses.dataclass(frozen=True)
class _Start:
    """Where a run starts or goes on.

    Attributes:
      goes_on: whether there is a run that goes on, if only from its beginning.
      step: number of steps taken.
      state: what the step remembers.
      totals: of the steps since the last report.
      warnings: lines about checkpoints that could not be used.
    """

    goes_on: bool
    step: int
    state: State
    totals: Totals
    warnings: tuple[str, ...]


def _start(run: workdir_lib.Workdir | None, built: Experiment, workers: Workers) -> _Start:
    """Reads the newest good checkpoint of a run that goes on into every worker's variables; writes nothing."""
    warnings: list[str] = []
    folder = checkpoint.newest_good(run.checkpoints, warnings.append) if run else None
    step = workers.number_of_chief(-1 if folder is None else checkpoint.step_of(folder))
    state, totals = built.step.initial_state(), built.step.initial_totals()
    if step < 0:
        return _Start(run is not None, 0, state, totals, tuple(warnings))
    if step > built.steps:
        where = f" in {run.path}" if run else ""
        raise ConfigError("steps", built.config.steps, f"the run{where} has taken {step} steps already")
    parts = _state(built, state, totals)
    if folder is not None:
        checkpoint.restore(folder, parts)
    workers.copy_from_chief(parts)
    remembered = {name: tf.convert_to_tensor(variable) for name, variable in parts.get(_REMEMBERED, {}).items()}
    since_report = {name: tf.convert_to_tensor(parts[_SINCE_REPORT][name]) for name in _OF_TOTALS}
    return _Start(
        True, step, built.step.carried.with_remembered(remembered), totals._replace(**since_report), tuple(warnings)
    )


def _state(built: Experiment, state: State, totals: Totals) -> checkpoint.State:
    """Everything that a run must find again to go on as if it had not been interrupted."""
    parts = checkpoint.state_of(built.model, built.step.updates.optimizers)
    parts[_SINCE_REPORT] = {name: tf.Variable(getattr(totals, name)) for name in _OF_TOTALS}
    if remembered := built.step.carried.remembered(state):
        parts[_REMEMBERED] = {name: tf.Variable(value) for name, value in remembered.items()}
    if built.step.updates.average is not None:
        parts[_AVERAGE] = built.step.updates.average.by_name
    if built.step.updates.moving_rows is not None:
        parts[_MOVING_ROWS] = built.step.updates.moving_rows.by_name
    return parts


def _rewind(run: workdir_lib.Workdir, config: Config, step: int) -> list[Report]:
    """Takes back what an interrupted process wrote after `step`; returns the reports that stay."""
    if loading.load_saved(run.config) != config:  # a cadence may have changed
        loading.save(config, run.config)
    checkpoint.remove_incomplete(run.checkpoints)
    checkpoint.set_aside(run.checkpoints, newer_than=step)
    return history_lib.rewind(run.metrics, run.tensorboard, step)


def _recorder(
    run: workdir_lib.Workdir | None,
    built: Experiment,
    first: int,
    marks: Sequence[int],
    console: Console | None,
) -> Recorder:
    if run is None:
        return Recorder()
    heads = {loss.name: loss.head for loss in built.losses}
    keep = built.config.keep_checkpoints
    return Files(run, first=first, steps=built.steps, heads=heads, keep=keep, marks=marks, console=console)


@dataclasses.dataclass(frozen=True)
class _Training:
    """The loop, once everything is built.

    Attributes:
      built: the experiment.
      workers: who takes part.
      watchdog: hears what is being done.
      recorder: hears of everything a run leaves.
      request: whether this process has been asked to stop.
      history: the reports so far; grows.
      train_steps: the in-graph loop.
      evaluate: evaluates the validation split.
      marks: where the profiler wants the loop to come by.
    """

    built: Experiment
    workers: Workers
    watchdog: Watchdog
    recorder: Recorder
    request: StopRequest
    history: list[Report]
    train_steps: Callable[..., tuple[State, Totals]]
    evaluate: Callable[[], dict[str, float | None]]
    marks: tuple[int, ...]

    def run(self, run: workdir_lib.Workdir | None, start: _Start, iterator: Iterator, console: Console | None) -> None:
        """Takes the steps, with reports, evaluations and checkpoints where they are due; then writes the results."""
        built, config, recorder = self.built, self.built.config, self.recorder
        for warning in (*built.notes, *start.warnings):
            recorder.say(f"warning: {warning}")
        first = f"from step {start.step} of " if start.goes_on else ""
        if run:
            devices = _devices(built.strategy, self.workers)
            recorder.say(f"{run.path}: {first}{built.steps} steps on {devices}, {_combination(config)}")
        average_statistics = replica_state.build_statistics_average(built.strategy, built.model)
        no_totals = built.step.initial_totals()
        state, totals = start.state, start.totals
        step = start.step
        recorder.profile_at(step)
        stopped = self._chief_finds(_is_exhausted(self.history, built))
        while step < built.steps and not stopped:
            stop = _next_stop(step, built.steps, built.cadences, self.marks, config.steps_per_loop)
            report_due, eval_due, save_due = (stop % every == 0 or stop == built.steps for every in built.cadences)
            self.watchdog.doing(f"steps {step + 1} to {stop}")
            with self._running(f"after step {step}", step), recorder.profiled(step):
                state, totals = self.train_steps(
                    iterator, _int64(step), _int64(stop - step), tf.constant(report_due), state, totals
                )
                # A signal that comes later is for the next round, with all of what goes before a save.
                signal = self.workers.agreed_signal(self.request.signal)
            if step == start.step:
                recorder.start_clock(stop)  # the first call includes tracing
            step = stop
            recorder.profile_at(step)
            recorder.advance(step)
            if report_due or eval_due or save_due or signal:
                _stop_where_failed(totals, built)
            if report_due:
                self._publish(_report(step, state, totals, built))
                totals = no_totals
            if eval_due:
                self._publish_evaluation(step)
                stopped = self._chief_finds(_is_exhausted(self.history, built))
                improved = self._chief_finds(
                    built.best is not None and monitor.best_step(self.history, built.best) == step
                )
                save_due = save_due or stopped or improved
            if step == built.steps or stopped:
                _refuse_non_finite_result(self.history[-1], [loss.name for loss in built.losses])
            if save_due or signal:
                self.watchdog.doing(f"saving step {step}")
                _refuse_non_finite_variables(step, built)
                average_statistics()
                if run:
                    best = None if built.best is None else monitor.best_step(self.history, built.best)
                    recorder.save(step, _state(built, state, totals), best)
            if signal and step < built.steps and not stopped:
                recorder.wait()
                recorder.say(
                    f"stopped by {signal.name}; step {step} is saved, the same command with this workdir goes on"
                )
                recorder.wait()  # for the log
                self.workers.wait()
                raise StoppedError(signals.EXIT_CODES[signal])
        last = (self.history[-1].step, self.history[-1].split) if self.history else None
        if self._chief_finds(last != (step, VALIDATION)):
            self._publish_evaluation(step)  # its end was not the end before, or its reports are gone
        self.watchdog.doing("writing the results")
        recorder.wait()
        if run:
            if stopped:
                patience = built.early_stopping.patience
                recorder.say(f"stopped early at step {step}: {patience} evaluations without improvement")
            _finish(run, self.history, built, console)
            recorder.say(f"{run.path}: report.md, curves.png, metrics.jsonl; tensorboard --logdir {run.path}")
        self.workers.wait()  # a worker that left early would look like one that is lost

    def _publish(self, report: Report) -> None:
        self.history.append(report)
        self.recorder.publish(report)

    def _publish_evaluation(self, step: int) -> None:
        self.watchdog.doing(f"the evaluation after step {step}")
        with self._running(f"evaluation after step {step}"), _averaged(self.built):
            values = self.evaluate()
        self._publish(Report(step, VALIDATION, values))
        self.recorder.start_clock(step)

    def _chief_finds(self, own: bool) -> bool:
        """What the chief finds: it alone knows the reports of earlier processes."""
        return bool(self.workers.number_of_chief(int(own)))

    @contextlib.contextmanager
    def _running(self, what: str, reading_from: int | None = None) -> Iterator[None]:
        """Turns an error from within the graph into a RunError: what was being done, and on which example."""
        try:
            with self.workers.watched():
                yield
        except tf.errors.OpError as error:
            wrong = self.built.wrong_example(reading_from)
            raise RunError(f"{what}: {wrong or f'{type(error).__name__}: {reason_of(error)}'}") from error


def _report(step: int, state: State, totals: Totals, built: Experiment) -> Report:
    return reports.of_totals(
        step,
        totals,
        built.losses,
        optimizers.learning_rates(built.step.updates.optimizers),
        sharing=bool(built.step.reach.shared),
        method=built.step.carried.combination.method,
        loss_scale=built.step.scaling.reported(state.loss_scale).get("loss_scale"),
    )


def evaluate(
    config: Config, workdir: workdir_lib.Workdir, strategy: tf.distribute.Strategy, console: Console | None = None
) -> Report:
    """Evaluates the newest good checkpoint of a run on its validation split and prints the table; writes nothing.

    Raises:
      ConfigError: there is no good checkpoint, or it does not fit.
    """
    saved = checkpoint.newest_good(workdir.checkpoints, logging.warning)
    if saved is None:
        raise ConfigError("--workdir", str(workdir.path), "holds no checkpoint yet")
    kept = data_lib.load_saved(workdir.data)
    built = experiment.build(config, strategy, kept)
    for line in data_lib.changes(kept, built.data.saved) if kept is not None else ():
        logging.warning("%s", line)
    state = {"model": checkpoint.model_state(built.model)}
    if built.step.updates.average is not None:
        state[_AVERAGE] = built.step.updates.average.by_name
    checkpoint.restore(saved, state)
    step = checkpoint.step_of(saved)
    with _averaged(built):
        report = Report(step, VALIDATION, built.evaluator.build()())
    heads = {loss.name: loss.head for loss in built.losses}
    terminal.print_table(report, heads, title=f"Validation of {saved}", console=console)
    return report


def _averaged(built: Experiment) -> contextlib.AbstractContextManager[None]:
    """The model holds the moving averages of its weights within this context, where the run keeps them."""
    return contextlib.nullcontext() if built.step.updates.average is None else built.step.updates.average.in_place()


def _is_exhausted(history: list[Report], built: Experiment) -> bool:
    return built.early_stopping is not None and monitor.is_exhausted(history, built.early_stopping)


def _next_stop(step: int, steps: int, cadences: Sequence[int], marks: Sequence[int], steps_per_loop: int) -> int:
    """Where the next call of the in-graph loop ends: the end, something due, a mark, or the loop's own length."""
    due = ((step // every + 1) * every for every in cadences)
    return min(steps, step + steps_per_loop, *due, *(mark for mark in marks if mark > step))


def _stop_where_failed(totals: Totals, built: Experiment) -> None:
    failed = int(totals.failed_step)
    if failed < 0:
        return
    values = totals.failed_losses.numpy()
    wrong = {loss.name: k for k, loss in enumerate(built.losses) if totals.failed.numpy()[k]}
    not_finite = [name for name, k in wrong.items() if not math.isfinite(values[k])]
    bounds = built.step.carried.combination.lower_bounds
    if bounds is not None and not not_finite:
        too_small = {name: float(values[k]) for name, k in wrong.items() if values[k] <= bounds[k]}
        if too_small:
            limits = {name: float(bounds[k]) for name, k in wrong.items()}
            raise LogarithmError(failed + 1, too_small, limits, built.config.combine.name)
    raise NonFiniteError(failed + 1, list(wrong))


def _refuse_non_finite_result(final: Report, names: list[str]) -> None:
    """The last update may have spoilt the variables, with no step after it to notice."""
    values = {name: final.values[f"loss/{name}"] for name in names}
    wrong = [name for name, value in values.items() if value is not None and not math.isfinite(value)]
    if wrong:
        raise NonFiniteError(final.step, wrong, split=final.split)


def _refuse_non_finite_variables(step: int, built: Experiment) -> None:
    """What is saved must be worth going on from."""
    variables = built.step.reach.variables
    finite = tf.stack([tf.reduce_all(tf.math.is_finite(variable.value)) for variable in variables])  # one host copy
    for variable, fine in zip(variables, finite.numpy(), strict=True):
        if not fine:
            raise RunError(
                f"step {step}: variable {variable.path} became non-finite; this step was not saved; "
                "a lower learning rate or clip_norm often helps"
            )


@contextlib.contextmanager
def _building() -> Iterator[None]:
    """Turns whatever a model or a loss raises while it is traced into a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except import_paths.USER_ERRORS as error:
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise ConfigError("configuration", ConfigError.ABSENT, f"the step cannot be built: {reason}") from error


def _finish(run: workdir_lib.Workdir, history: list[Report], built: Experiment, console: Console | None) -> None:
    final, config = history[-1], built.config
    heads = {loss.name: loss.head for loss in built.losses}
    terminal.print_table(final, heads, title=f"Validation after {final.step} steps", console=console)
    run.report.write_text(
        f"# Validation after {final.step} steps\n\n{terminal.markdown_table(final, heads)}\n"
        f"{final.step} steps of {config.batch_size} examples, {_combination(config)}, seed {config.seed}.\n\n"
        f"{_fallbacks(history, config)}{_warnings(built.notes)}"
        "![Curves](curves.png)\n"
    )
    plots.save_curves(history, list(heads), run.curves)


def _warnings(notes: Sequence[str]) -> str:
    return "".join(f"Warning: {note}.\n\n" for note in notes)


def _fallbacks(history: list[Report], config: Config) -> str:
    count = sum(report.values.get("fallbacks", 0) for report in history)
    if not count:
        return ""
    return (
        f"In {count} steps the gradients left {config.combine.name} without a solution; the mean of the unit-length "
        "gradients was applied.\n\n"
    )


def _combination(config: Config) -> str:
    return f"{config.combine.name} applied {'per loss' if config.combine.apply == 'per_loss' else 'jointly'}"


def _devices(strategy: tf.distribute.Strategy, workers: Workers) -> str:
    count = strategy.num_replicas_in_sync
    kind = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0]).device_type
    on = f" of {workers.count} workers" if workers.count > 1 else ""
    return f"{count} {kind}{' replicas' if count > 1 else ''}{on}"


def _int64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.int64)
