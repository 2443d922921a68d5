"""The run: steps, reports, evaluations and checkpoints; going on where an earlier process was interrupted."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import tensorflow as tf
from absl import logging
from rich.console import Console

from input_pipelines import data as data_lib
from trainer import (
    checkpoint,
    configuration,
    experiment,
    imports,
    monitor,
    optimizers,
    plots,
    profiling,
    replica_state,
    reports,
    stopping,
    terminal,
    writing,
)
from trainer import history as history_lib
from trainer import workdir as workdir_lib
from trainer.configuration import Config
from trainer.errors import ConfigError, LogarithmError, NonFiniteError, RunError, StoppedError, reason_of
from trainer.experiment import Experiment
from trainer.profiling import Profiler
from trainer.reports import VALIDATION, Report
from trainer.step_values import State, Totals

# Parts of a checkpoint beside the model and the optimizers.
_SINCE_REPORT, _REMEMBERED, _AVERAGE, _MOVING_ROWS = "since_report", "step", "average", "moving_rows"
_OF_TOTALS = ("losses", "counts", "fallbacks")  # what of the totals a report reads that later steps do not set


def train(
    config: Config,
    workdir: str | None,
    strategy: tf.distribute.Strategy,
    console: Console | None = None,
    profile: tuple[int, int] | None = None,
) -> list[Report]:
    """Trains to the last step: from the first, or from the newest good checkpoint of the run that `workdir` holds.

    Args:
      config: the resolved configuration.
      workdir: directory of the run; None for a new dated one under `runs/`. A new one is made only once everything is
        known to fit.
      strategy: where to run.
      console: where to show progress; default standard output.
      profile: first and last step to profile, counted from 1; None profiles nothing.

    Returns:
      Every report of the run, as in `metrics.jsonl`; the last one is the final evaluation.

    Raises:
      ConfigError: something in the configuration or the workdir cannot be used; nothing was written.
      RunError: a loss or gradient became non-finite, a step failed, or something cannot be written; the workdir is
        kept.
      StoppedError: a signal asked the process to stop; everything is saved.
    """
    run = workdir_lib.claim(workdir, config)
    try:
        saved = data_lib.load_saved(run.data) if run else None
        built = experiment.build(config, strategy, saved)
        if saved is not None and (changed := data_lib.changes(saved, built.data.saved)):
            raise ConfigError("--workdir", str(run.path), f"{'; '.join(changed)}; put the data back or start a new run")
        resumed = _restore(run, built) if run else None
        first_step = resumed.step if resumed else 0
        marks = profiling.marks(profile, first=first_step, last=built.steps)
        iterator = iter(built.batches(first_step=first_step))
        state = resumed.state if resumed else built.step.initial_state()
        totals = resumed.totals if resumed else built.step.initial_totals()
        with _building():
            # Traced before the directory is made, so that whatever cannot be traced leaves none behind.
            train_steps, evaluate = built.step.build(), built.evaluator.build()
            train_steps.get_concrete_function(iterator, _int64(0), _int64(0), tf.constant(False), state, totals)
        run = run or workdir_lib.create(workdir, config)
        if saved is None:
            data_lib.save(built.data.saved, run.data)
        with writing.disk_errors():
            return _run(built, run, resumed, iterator, state, totals, train_steps, evaluate, console, marks)
    finally:
        if run:
            run.release()


@dataclasses.dataclass(frozen=True)
class _Resumed:
    """Where an interrupted run goes on.

    Attributes:
      step: number of steps taken.
      state: what the step remembers.
      totals: of the steps since the last report.
      warnings: lines about checkpoints that could not be used.
    """

    step: int
    state: State
    totals: Totals
    warnings: tuple[str, ...]


def _restore(run: workdir_lib.Workdir, built: Experiment) -> _Resumed:
    """Reads the newest good checkpoint into the experiment's variables; writes nothing."""
    warnings: list[str] = []
    folder = checkpoint.newest_good(run.checkpoints, warnings.append)
    if folder is None:
        return _Resumed(0, built.step.initial_state(), built.step.initial_totals(), tuple(warnings))
    step = checkpoint.step_of(folder)
    if step > built.steps:
        raise ConfigError("steps", built.config.steps, f"the run in {run.path} has taken {step} steps already")
    parts = _state(built, built.step.initial_state(), built.step.initial_totals())
    checkpoint.restore(folder, parts)
    remembered = {name: tf.convert_to_tensor(variable) for name, variable in parts.get(_REMEMBERED, {}).items()}
    state = built.step.with_remembered(remembered)
    since_report = parts[_SINCE_REPORT]
    totals = built.step.initial_totals()._replace(
        **{name: tf.convert_to_tensor(since_report[name]) for name in _OF_TOTALS}
    )
    return _Resumed(step, state, totals, tuple(warnings))


def _state(built: Experiment, state: State, totals: Totals) -> checkpoint.State:
    """Everything that a run must find again to go on as if it had not been interrupted."""
    parts = checkpoint.state_of(built.model, built.step.updates)
    parts[_SINCE_REPORT] = {name: tf.Variable(getattr(totals, name)) for name in _OF_TOTALS}
    if remembered := built.step.remembered(state):
        parts[_REMEMBERED] = {name: tf.Variable(value) for name, value in remembered.items()}
    if built.step.average is not None:
        parts[_AVERAGE] = built.step.average.by_name
    if built.step.moving_rows is not None:
        parts[_MOVING_ROWS] = built.step.moving_rows.by_name
    return parts


def _run(
    built: Experiment,
    run: workdir_lib.Workdir,
    resumed: _Resumed | None,
    iterator: Iterator,
    state: State,
    totals: Totals,
    train_steps: Callable[..., Totals],
    evaluate: Callable[[], dict[str, float | None]],
    console: Console | None,
    marks: tuple[int, ...],
) -> list[Report]:
    config, heads = built.config, {loss.name: loss.head for loss in built.losses}
    first = resumed.step if resumed else 0
    history: list[Report] = []
    if resumed:
        if configuration.load_saved(run.config) != config:  # a cadence may have changed
            configuration.save(config, run.config)
        checkpoint.remove_incomplete(run.checkpoints)
        checkpoint.set_aside(run.checkpoints, newer_than=first)
        history = history_lib.rewind(run.metrics, run.tensorboard, first)
    average_statistics = replica_state.build_statistics_average(built.strategy, built.model)
    saving: Future[None] | None = None
    no_totals = built.step.initial_totals()
    with contextlib.ExitStack() as stack:
        # The bar and the lines of the terminal stay on this thread, which knows when a step was taken; files do not.
        writer = writing.Writer()
        shown = stack.enter_context(terminal.Terminal(run.log, first, built.steps, heads, writer.submit, console))
        stack.enter_context(shown.logging_errors())
        files = [
            stack.enter_context(contextlib.closing(kind))
            for kind in (reports.JsonLines(run.metrics), reports.TensorBoard(run.tensorboard))
        ]
        request = stack.enter_context(stopping.listening())
        stack.enter_context(writer)
        profiler = stack.enter_context(contextlib.closing(Profiler(run.tensorboard, marks)))

        def publish(report: Report) -> None:
            history.append(report)
            for file in files:
                writer.submit(file.write, report)
            shown.write(report)

        def publish_evaluation(step: int) -> None:
            with _running(f"evaluation after step {step}", built), _averaged(built):
                values = evaluate()
            publish(Report(step, VALIDATION, values))
            shown.start_clock(step)

        def save(step: int) -> None:
            nonlocal saving
            _refuse_non_finite_variables(step, built)
            average_statistics()
            if saving is not None:
                saving.result()  # memory holds one snapshot at most
            snapshot = checkpoint.snapshot(_state(built, state, totals))
            saving = writer.submit(checkpoint.save, run.checkpoints, step, snapshot)
            best = None if built.best is None else monitor.best_step(history, built.best)
            writer.submit(checkpoint.prune, run.checkpoints, config.keep_checkpoints, best)

        for warning in (*built.notes, *(resumed.warnings if resumed else ())):
            shown.say(f"warning: {warning}")
        start = f"from step {first} of " if resumed else ""
        devices = _devices(built.strategy)
        shown.say(f"{run.path}: {start}{built.steps} steps on {devices}, {_combination(config)}")
        step = first
        profiler.at(step)
        stopped = _is_exhausted(history, built)
        while step < built.steps and not stopped:
            stop = _next_stop(step, built.steps, built.cadences, marks, config.steps_per_loop)
            report_due, eval_due, save_due = (stop % every == 0 or stop == built.steps for every in built.cadences)
            with _running(f"after step {step}", built, step), profiler.step(step):
                state, totals = train_steps(
                    iterator, _int64(step), _int64(stop - step), tf.constant(report_due), state, totals
                )
            if step == first:
                shown.start_clock(stop)  # the first call includes tracing
            step = stop
            profiler.at(step)
            shown.advance(step)
            signal = request.signal  # one that comes later is for the next round, with all of what goes before a save
            if report_due or eval_due or save_due or signal:
                _stop_where_failed(totals, built)
            if report_due:
                rates = optimizers.learning_rates(built.step.updates)
                publish(
                    reports.of_totals(
                        step,
                        totals,
                        built.losses,
                        rates,
                        sharing=bool(built.step.reach.shared),
                        method=built.step.combination.method,
                        loss_scale=float(state.loss_scale.scale) if built.step.scales_losses else None,
                    )
                )
                totals = no_totals
            if eval_due:
                publish_evaluation(step)
                stopped = _is_exhausted(history, built)
                improved = built.best is not None and monitor.best_step(history, built.best) == step
                save_due = save_due or stopped or improved
            if step == built.steps or stopped:
                _refuse_non_finite_result(history[-1], list(heads))
            if save_due or signal:
                save(step)
            if signal and step < built.steps and not stopped:
                writer.wait()
                shown.say(f"stopped by {signal.name}; step {step} is saved, the same command with this workdir goes on")
                writer.wait()  # for the log
                raise StoppedError(stopping.EXIT_CODES[signal])
        if not history or (history[-1].step, history[-1].split) != (step, VALIDATION):
            publish_evaluation(step)  # its end was not the end before, or its reports are gone
        writer.wait()
        if stopped:
            shown.say(f"stopped early at step {step}: {built.early_stopping.patience} evaluations without improvement")
        _finish(run, history, heads, config, built.notes, console)
        shown.say(f"{run.path}: report.md, curves.png, metrics.jsonl; tensorboard --logdir {run.path}")
    return history


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
    if built.step.average is not None:
        state[_AVERAGE] = built.step.average.by_name
    checkpoint.restore(saved, state)
    step = checkpoint.step_of(saved)
    with _averaged(built):
        report = Report(step, VALIDATION, built.evaluator.build()())
    heads = {loss.name: loss.head for loss in built.losses}
    terminal.print_table(report, heads, title=f"Validation of {saved}", console=console)
    return report


def _averaged(built: Experiment) -> contextlib.AbstractContextManager[None]:
    """The model holds the moving averages of its weights within this context, where the run keeps them."""
    return contextlib.nullcontext() if built.step.average is None else built.step.average.in_place()


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
    bounds = built.step.combination.lower_bounds
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
    except imports.USER_ERRORS as error:
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise ConfigError("configuration", ConfigError.ABSENT, f"the step cannot be built: {reason}") from error


@contextlib.contextmanager
def _running(what: str, built: Experiment, reading_from: int | None = None) -> Iterator[None]:
    """Turns an error from within the graph into a RunError that says what was being done, and on which example."""
    try:
        yield
    except tf.errors.OpError as error:
        wrong = built.wrong_example(reading_from)
        raise RunError(f"{what}: {wrong or f'{type(error).__name__}: {reason_of(error)}'}") from error


def _finish(
    run: workdir_lib.Workdir,
    history: list[Report],
    heads: dict[str, str],
    config: Config,
    notes: Sequence[str],
    console: Console | None,
) -> None:
    final = history[-1]
    terminal.print_table(final, heads, title=f"Validation after {final.step} steps", console=console)
    run.report.write_text(
        f"# Validation after {final.step} steps\n\n{terminal.markdown_table(final, heads)}\n"
        f"{final.step} steps of {config.batch_size} examples, {_combination(config)}, seed {config.seed}.\n\n"
        f"{_fallbacks(history, config)}{_warnings(notes)}"
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


def _devices(strategy: tf.distribute.Strategy) -> str:
    count = strategy.num_replicas_in_sync
    kind = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0]).device_type
    return f"{count} {kind}{' replicas' if count > 1 else ''}"


def _int64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.int64)
