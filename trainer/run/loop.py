"""The loop over the steps of a run: reports, evaluations and checkpoints where they are due, and when it ends."""

import contextlib
import dataclasses
import signal as signal_lib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from trainer.common.errors import RunError, StoppedError
from trainer.components import scalars
from trainer.distributed import drift, signals
from trainer.distributed.signals import StopRequest
from trainer.distributed.watchdog import Watchdog
from trainer.distributed.workers import Workers
from trainer.evaluation.evaluator import Evaluate
from trainer.output import best, speed
from trainer.output.recorder import Recorder
from trainer.output.reports import TRAIN, VALIDATION, Report
from trainer.output.speed import Stopwatch
from trainer.run import failures, plateau, resume
from trainer.run.experiment import Experiment
from trainer.run.hooks import END, Hooks
from trainer.run.loggers import Loggers
from trainer.run.monitor import Monitors
from trainer.run.resume import Start
from trainer.step.values import State, Totals


class End(NamedTuple):
    """The end of a run: the number of steps taken, and whether early stopping or a hook ended it."""

    step: int
    is_early: bool


@dataclasses.dataclass
class Loop:
    """The loop, once everything is built and traced.

    All workers run it alike: whatever one of them decides by what it alone knows, it asks the others first.

    Attributes:
      built: the experiment.
      workers: who takes part.
      watchdog: is notified of what the process does.
      recorder: gets all of the run's output.
      stopwatch: measures what the time goes into.
      request: whether this process has been asked to stop.
      monitors: the state of what decides by reports, which every report moves on.
      evaluated: number of steps taken at the last report, where that is an evaluation; else None.
      train_steps: the in-graph loop.
      evaluate: evaluates a split after a number of steps.
      boundaries: numbers of steps taken at which the loop stops for the profiler.
      hooks: are called with every report; on the chief.
      loggers: get every report; on the chief.
      said: expressions of which the run has been told that they divide by zero.
    """

    built: Experiment
    workers: Workers
    watchdog: Watchdog
    recorder: Recorder
    stopwatch: Stopwatch
    request: StopRequest
    monitors: Monitors
    evaluated: int | None
    train_steps: Callable[..., tuple[State, Totals]]
    evaluate: Evaluate
    boundaries: tuple[int, ...]
    hooks: Hooks
    loggers: Loggers
    said: set[str] = dataclasses.field(default_factory=set)

    def run(self, start: Start, source: Any) -> End:
        """Takes the steps from `start` on, reading from `Experiment.source`, and evaluates at the end.

        Raises:
          RunError: a loss, a gradient or a variable became non-finite, or a step failed; or a hook, and all is saved.
          StoppedError: a signal asked one of the workers to stop; everything is saved.
        """
        built, recorder, timeline = self.built, self.recorder, self.built.timeline
        find_drift = drift.build_check(built.strategy, resume.replicated(built))
        no_totals = built.step.initial_totals()
        step, state, totals = start.step, start.state, start.totals
        saved = step or None
        recorder.profile_at(step)
        stopped = self._is_stopping()
        while step < timeline.steps and not stopped:
            first, step = step, self._next(step)
            report_due, eval_due, save_due = (timeline.is_due(interval, step) for interval in built.intervals)
            report_due = report_due or step in built.intervals.early_reports
            others_due = built.evaluations.due(step, timeline, with_validation=eval_due)
            state, totals, signal = self._take(source, first, step, report_due, state, totals)
            self.stopwatch.started(step)
            recorder.profile_at(step)
            recorder.advance(step)
            # A step that could not be taken ends the run before anything is said of it.
            is_due = report_due or eval_due or others_due or save_due
            if (is_due or signal) and (failure := built.step.failure(totals)):
                raise failures.error_of(failure, built.config.combine.name)
            if report_due:
                self._publish_training(state, totals, step)
                totals = no_totals
            others = {split: self.publish_split(split, step) for split in others_due}
            if eval_due:  # after the others, so that all stand in the files in this order
                evaluation = self._publish_evaluation(step, others)
                stopped = self._is_stopping()
                improved = self._chief_finds(self.monitors.best_step == step)
                save_due = save_due or stopped or improved
                if step == timeline.steps or stopped:
                    failures.refuse_non_finite_result(evaluation, [loss.name for loss in built.losses])
            elif self.hooks.exist and (report_due or others_due):
                stopped = self._is_stopping()
                save_due = save_due or stopped
            if save_due or signal:
                with self.stopwatch.within(speed.SAVING):
                    self.watchdog.doing(f"saving step {step}")
                    # First: it is for all workers to notice, what follows perhaps for one.
                    found = find_drift(built.step.remembered(state))
                    failures.refuse_drift(step, found, self.workers, built.strategy.num_replicas_in_sync, saved)
                    failures.refuse_non_finite_variables(step, built.reach.by_name)
                    self._save(step, state, totals)
                saved = step
            if stopped:
                self.refuse_failed_hook()
            if signal and step < timeline.steps and not stopped:
                self._stop(signal, step)
        if self._chief_finds(self.evaluated != step):
            others_due = built.evaluations.due(step, timeline, with_validation=True)
            others = {split: self.publish_split(split, step) for split in others_due}
            self._publish_evaluation(step, others)  # its end was not the end before, or its reports are gone
        return End(step, stopped)

    def _next(self, step: int) -> int:
        """The number of steps taken when the next call of the in-graph loop ends."""
        return self.built.timeline.next_boundary(
            step,
            intervals=(*self.built.intervals, *self.built.evaluations.intervals.values()),
            boundaries=(*self.boundaries, *self.built.intervals.early_reports),
            at_most=self.built.config.steps_per_loop,
        )

    def _take(
        self, source: Any, first: int, end: int, diagnose: bool, state: State, totals: Totals
    ) -> tuple[State, Totals, signal_lib.Signals | None]:
        """Takes the steps from `first` to `end`; also returns the signal that any worker has got meanwhile."""
        self.watchdog.doing(f"steps {first + 1} to {end}")
        with self._running(f"after step {first}", first), self.recorder.profiled(first):
            state, totals = self.train_steps(source, *arguments(first, end, diagnose), state, totals)
            # A signal that comes later is for the next round, with all of what goes before a save.
            return state, totals, self.workers.agreed_signal(self.request.signal)

    def _publish_training(self, state: State, totals: Totals, step: int) -> None:
        with self.stopwatch.within(speed.REPORTS):
            values = self.built.step.report(state, totals, step)
            if self.built.train_metrics is not None:
                values |= self.built.train_metrics.report()
            lap = self.stopwatch.lap(step, self.built.config.batch_size)
        self._publish(Report(step, TRAIN, values), lap)

    def publish_split(self, split: str, step: int) -> Report:
        """Evaluates a split with the model as it is, which has been trained for `step` steps."""
        return self._publish(self._evaluated(split, step))

    def refuse_failed_hook(self) -> None:
        """Raises RunError on all workers where a hook has failed."""
        if self.hooks.exist and (failure := self.workers.first_text(self.hooks.failure or "")):
            raise RunError(f"{failure}; what was trained is saved, the same command with this workdir resumes")

    def call_hooks_at_end(self, final: Report | None) -> None:
        """Calls hooks once more, on the chief with the last validation report; raises as `refuse_failed_hook`."""
        self.watchdog.doing("hooks at the end")
        if final is not None:
            self.hooks.call(final, END)
        self.refuse_failed_hook()

    def _publish(self, report: Report, lap: Report | None = None) -> Report:
        self.evaluated = report.step if report.split == VALIDATION else None
        with self.stopwatch.within(speed.REPORTS):
            self.recorder.publish(report, lap)
            self.loggers.write(report)
            self.hooks.call(report)
        return report

    def _publish_evaluation(self, step: int, others: Mapping[str, Report]) -> Report:
        """Evaluates the validation split; `others` are reports of the same step that `best` and the like may watch."""
        report = self.built.watched.added(best.joined(self._evaluated(VALIDATION, step), others.values()))
        is_due = step % self.built.intervals.evaluation == 0
        self.monitors = self.monitors.after(report, is_due=is_due)
        own = {name: value for name, value in report.values.items() if name.partition("/")[0] not in others}
        self._say_divisions_by_zero(report)
        published = self._publish(Report(step, VALIDATION, own))
        self._reduce_rates(step)
        return published

    def _reduce_rates(self, step: int) -> None:
        """Gives the next steps the learning rates that the chief's monitors have decided."""
        if self.built.rate_scale is not None and step < self.built.timeline.steps:
            count = self.workers.broadcast_number(self.monitors.reductions)
            if line := plateau.reduce(self.built, count, step):
                self.recorder.say(line)

    def _evaluated(self, split: str, step: int) -> Report:
        what = f"evaluation after step {step}" + ("" if split == VALIDATION else f" on {split}")
        self.watchdog.doing(f"the {what}")
        timed = self.stopwatch.within(speed.EVALUATION)
        with timed, self._running(what, split=split), self.built.step.averaged():
            values = self.evaluate(step, split)
        return Report(step, split, values)

    def _say_divisions_by_zero(self, report: Report) -> None:
        for expression, line in self.built.watched.dividing_by_zero(report).items():
            if expression not in self.said:
                self.said.add(expression)
                self.recorder.say(f"warning: {line}")

    def _save(self, step: int, state: State, totals: Totals) -> None:
        of_replicas = self.built.layer_state.of_replicas()  # on all workers, and so the next
        window = {} if self.built.train_metrics is None else self.built.train_metrics.of_replicas()
        if self.workers.is_chief:
            saved = resume.to_save(self.built, state, totals, of_replicas, window)
            decisions = resume.decisions(self.monitors, self.hooks.stopped)
            self.recorder.save(step, saved, self.monitors.best_step, decisions)

    def _stop(self, signal: signal_lib.Signals, step: int) -> None:
        """Ends the run with the signal's exit code, once what was saved is on the disk and everybody knows."""
        self.recorder.wait()
        self.recorder.say(f"stopped by {signal.name}; step {step} is saved, the same command with this workdir resumes")
        self.recorder.wait()  # for the log
        self.workers.barrier()
        raise StoppedError(signals.EXIT_CODES[signal])

    def _is_stopping(self) -> bool:
        return self._chief_finds(self.monitors.is_exhausted or self.hooks.is_over)

    def _chief_finds(self, own: bool) -> bool:
        """Returns the chief's `own` on every worker: the chief alone knows the reports of earlier processes."""
        return bool(self.workers.broadcast_number(int(own)))

    def _running(self, what: str, reading_from: int = 0, split: str = TRAIN) -> contextlib.AbstractContextManager[None]:
        return failures.running(self.built, self.workers, what, split, reading_from)


def arguments(first: int, end: int, measure: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the in-graph loop's arguments for the steps from `first` to `end`: two int64 scalars and a bool."""
    return scalars.int64(first), scalars.int64(end - first), tf.constant(measure)
