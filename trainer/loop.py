"""The run: steps, reports, evaluations and the final checkpoint."""

import contextlib
import math
from collections.abc import Iterator

import tensorflow as tf
from rich.console import Console

from trainer import checkpoint, configuration, experiment, imports, plots, reports, terminal
from trainer import workdir as workdir_lib
from trainer.configuration import Config
from trainer.errors import ConfigError, NonFiniteError, RunError, reason_of
from trainer.reports import VALIDATION, Report
from trainer.step import Totals


def train(
    config: Config, workdir: str | None, strategy: tf.distribute.Strategy, console: Console | None = None
) -> list[Report]:
    """Trains from the first step to the last.

    Args:
      config: the resolved configuration.
      workdir: directory of the new run; None for a dated one under `runs/`. Made only once everything is known to fit.
      strategy: where to run.
      console: where to show progress; default standard output.

    Returns:
      Every report of the run, as in `metrics.jsonl`; the last one is the final evaluation.

    Raises:
      ConfigError: something in the configuration or the workdir cannot be used; nothing was written.
      RunError: a loss or gradient became non-finite, or a step failed; the workdir is kept.
    """
    built = experiment.build(config, strategy)
    heads = {loss.name: loss.head for loss in built.losses}
    iterator, totals = iter(built.batches(first_step=0)), built.step.initial_totals()
    with _building():
        # Traced before the directory is made, so that whatever cannot be traced leaves none behind.
        train_steps, evaluate = built.step.build(), built.evaluator.build()
        train_steps.get_concrete_function(iterator, _int64(0), _int64(0), tf.constant(False), totals)

    run = workdir_lib.create(workdir)
    configuration.save(config, run.config)
    history: list[Report] = []
    with contextlib.ExitStack() as stack:
        shown = stack.enter_context(terminal.Terminal(run.log, built.steps, heads, console))
        stack.enter_context(shown.logging_errors())
        writers = [
            stack.enter_context(contextlib.closing(kind))
            for kind in (reports.JsonLines(run.metrics), reports.TensorBoard(run.tensorboard))
        ]

        def publish(report: Report) -> None:
            history.append(report)
            for writer in (*writers, shown):
                writer.write(report)

        shown.say(f"{run.path}: {built.steps} steps on {_devices(strategy)}, {_combination(config)}")
        step = 0
        while step < built.steps:
            stop = _next_stop(step, built.steps, built.report_every, built.eval_every, config.steps_per_loop)
            report_due = stop % built.report_every == 0 or stop == built.steps
            eval_due = stop % built.eval_every == 0 or stop == built.steps
            with _running(f"after step {step}"):
                totals = train_steps(iterator, _int64(step), _int64(stop - step), tf.constant(report_due), totals)
            if step == 0:
                shown.start_clock(stop)  # the first call includes tracing
            step = stop
            shown.advance(step)
            if report_due or eval_due:
                _stop_where_not_finite(totals, list(heads))
            if report_due:
                publish(reports.of_totals(step, totals, built.losses, sharing=bool(built.step.reach.shared)))
                totals = built.step.initial_totals()
            if eval_due:
                with _running(f"evaluation after step {step}"):
                    publish(Report(step, VALIDATION, evaluate()))
                shown.start_clock(step)
        _refuse_non_finite_result(history[-1], list(heads))
        checkpoint.save(run.checkpoints, step, built.model, built.step.updates)
        _finish(run, history, heads, config, console)
        shown.say(f"{run.path}: report.md, curves.png, metrics.jsonl; tensorboard --logdir {run.path}")
    return history


def evaluate(
    config: Config, workdir: workdir_lib.Workdir, strategy: tf.distribute.Strategy, console: Console | None = None
) -> Report:
    """Evaluates the newest checkpoint of a run on its validation split and prints the table; writes nothing.

    Raises:
      ConfigError: there is no checkpoint, or it does not fit.
    """
    saved = checkpoint.latest(workdir.checkpoints)
    built = experiment.build(config, strategy)
    step = checkpoint.restore_model(saved, built.model)
    report = Report(step, VALIDATION, built.evaluator.build()())
    heads = {loss.name: loss.head for loss in built.losses}
    terminal.print_table(report, heads, title=f"Validation of {saved}", console=console)
    return report


def _next_stop(step: int, steps: int, report_every: int, eval_every: int, steps_per_loop: int) -> int:
    """Where the next call of the in-graph loop ends: the end, a report, an evaluation, or the loop's own length."""
    due = ((step // every + 1) * every for every in (report_every, eval_every))
    return min(steps, step + steps_per_loop, *due)


def _stop_where_not_finite(totals: Totals, names: list[str]) -> None:
    failed = int(totals.failed_step)
    if failed >= 0:
        raise NonFiniteError(
            failed + 1, [name for name, fine in zip(names, totals.last.finite.numpy(), strict=True) if not fine]
        )


def _refuse_non_finite_result(final: Report, names: list[str]) -> None:
    """The last update may have spoilt the variables, with no step after it to notice."""
    values = {name: final.values[f"loss/{name}"] for name in names}
    wrong = [name for name, value in values.items() if value is not None and not math.isfinite(value)]
    if wrong:
        raise NonFiniteError(final.step, wrong, split=final.split)


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
def _running(what: str) -> Iterator[None]:
    """Turns an error from within the graph into a RunError that says what was being done."""
    try:
        yield
    except tf.errors.OpError as error:
        raise RunError(f"{what}: {type(error).__name__}: {reason_of(error)}") from error


def _finish(
    run: workdir_lib.Workdir, history: list[Report], heads: dict[str, str], config: Config, console: Console | None
) -> None:
    final = history[-1]
    terminal.print_table(final, heads, title=f"Validation after {final.step} steps", console=console)
    run.report.write_text(
        f"# Validation after {final.step} steps\n\n{terminal.markdown_table(final, heads)}\n"
        f"{final.step} steps of {config.batch_size} examples, {_combination(config)}, seed {config.seed}.\n\n"
        "![Curves](curves.png)\n"
    )
    plots.save_curves(history, list(heads), run.curves)


def _combination(config: Config) -> str:
    return f"{config.combine.name} applied {'per loss' if config.combine.apply == 'per_loss' else 'jointly'}"


def _devices(strategy: tf.distribute.Strategy) -> str:
    count = strategy.num_replicas_in_sync
    kind = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0]).device_type
    return f"{count} {kind}{' replicas' if count > 1 else ''}"


def _int64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.int64)
