"""Tunes a cell: Optuna suggests values, each trial is a run, and the best one by the objective is chosen.

All trials have the configuration's own seed and start, the first also its own values, so that no method loses by being
tuned. Every method gets the same number of trials; one that is pruned or fails counts. The study is kept in a journal
in the cell's directory, one line of JSON for each thing that happens: a process that is killed loses at most the trial
in hand, which resumes as any run does, and the next ones are what they would have been.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from trainer.combine.entry import OneOf
from trainer.common import atomic_files
from trainer.common.errors import ConfigError, RunError, StoppedError
from trainer.compare import objectives, search_space, trials
from trainer.compare.objectives import Objective
from trainer.compare.search_space import Parameter
from trainer.compare.trials import COMPLETE, FAILED, PRUNED, Trial, Tuning
from trainer.config.settings import Config
from trainer.output.history import Reports
from trainer.output.reports import VALIDATION, Report
from trainer.output.workdir import Workdir
from trainer.run.hooks import Hook, HookReport, TrainingRun

JOURNAL = "trials.journal"
_FIELD = "--tuned"
_STUDY = "tuning"
_LEAST = 2  # complete trials before one is pruned
_DECIDED, _PRUNED, _REASON = "decided", "pruned", "reason"  # what the study and its trials remember besides
_STATES = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: PRUNED, TrialState.FAIL: FAILED}

# Trains the configuration of a trial with this number in `trials.path`, from the first step or from where it was, and
# calls the hook besides.
Train = Callable[[Config, int, Hook], Any]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A number of trials, and what they optimize.

    Attributes:
      trials: the number of trials.
      objective: as for `objectives.of`.
    """

    trials: int
    objective: str | None = None


def tune(
    config: Config, cell: pathlib.Path, wanted: Wanted, train: Train, say: Callable[[Trial], Any] = lambda trial: None
) -> Config:
    """The configuration with the best values that were found; runs the trials that are not there yet.

    Args:
      config: the configuration of the cell; its seed is that of the trials.
      cell: the cell's directory, which this process alone uses.
      wanted: how many trials, by what.
      train: trains one run; where it raises an exception, the trial has failed.
      say: gets every trial that has ended.

    Raises:
      ConfigError: the configuration cannot be trained as it is, or the directory holds trials of something else.
      RunError: none of the trials has a value of the objective.
      StoppedError: `train` was stopped by a signal.
    """
    objective, space = objectives.of(config, wanted.objective), search_space.of(config)
    study = _Study(cell, config, objective, space, wanted.trials)
    while (trial := study.next()) is not None:
        _run(study, trial, train)
        summary = study.summary()
        trials.write(cell, summary)
        say(summary.trials[trial.number])
    return search_space.applied(config, study.chosen().values)


def _run(study: "_Study", trial: optuna.Trial, train: Train) -> None:
    """Trains a trial to its end, whatever that is."""
    values = study.values(trial)
    try:
        train(search_space.applied(study.config, values), trial.number, study.hook(trial))
    except StoppedError:
        raise
    except Exception as error:
        if isinstance(error, ConfigError) and trial.number == 0:  # the configuration itself: no other values would do
            raise
        study.fail(trial, trials.failure(error))
    else:
        study.end(trial, study.objective.of_run(Reports(Workdir(trials.path(study.cell, trial.number)).metrics)))


class _Study:
    """Optuna's study of a cell.

    Args:
      cell: the cell's directory.
      config: the configuration before anything is tuned.
      objective: what is optimized.
      space: what is tuned.
      wanted: the number of trials.

    Raises:
      ConfigError: there is a study of another objective or space.
    """

    def __init__(
        self,
        cell: pathlib.Path,
        config: Config,
        objective: Objective,
        space: Mapping[str, Parameter],
        wanted: int,
    ):
        self.cell, self.config, self.objective, self._space, self._wanted = cell, config, objective, space, wanted
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        cell.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(cell / JOURNAL)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(cell / JOURNAL), _NoLock())),
            study_name=_STUDY,
            direction="minimize" if objective.mode == objectives.MIN else "maximize",
            load_if_exists=True,
        )
        decided = {"objective": objective.text, "space": _shown(space)}
        if self._study.user_attrs.get(_DECIDED, decided) != decided:
            reason = f"{cell.name} holds trials of another objective or over other values; take another --workdir"
            raise ConfigError(_FIELD, wanted, reason)
        self._study.set_user_attr(_DECIDED, decided)

    def next(self) -> optuna.Trial | None:
        """The trial that was interrupted, else a new one; None where there are enough."""
        first = search_space.first(self._space, -(-self._wanted // 2))
        for values in first[len(self._study.get_trials(deepcopy=False)) :]:
            self._study.enqueue_trial(values)
        found = self._study.get_trials(deepcopy=False)
        number = next((each.number for each in found if not each.state.is_finished()), len(found))
        # Of its own for each trial, so that it suggests the same in a process that begins later.
        self._study.sampler = optuna.samplers.TPESampler(seed=number, n_startup_trials=1)
        if number < len(found) and found[number].state is TrialState.RUNNING:
            return optuna.Trial(self._study, found[number]._trial_id)
        return self._study.ask() if number < self._wanted else None

    def values(self, trial: optuna.Trial) -> dict[str, Any]:
        """The values of a trial, numbers with four digits."""
        return {name: _suggested(trial, name, each) for name, each in self._space.items()}

    def hook(self, trial: optuna.Trial) -> Hook:
        """The hook that tells Optuna of a trial's validation reports, and ends one that is worse than the others."""

        def follow(run: TrainingRun, step: int, report: HookReport) -> None:
            value = self.objective.value(Report(step, report.split, report.values))
            is_due = report.kind == "evaluation" and report.split == VALIDATION and step < run.steps
            known = self._frozen(trial.number).intermediate_values
            if not is_due or value is None or step < max(known, default=0):  # what a resumed run makes again is decided
                return
            if step not in known:
                trial.report(value, step)
            self._study.pruner = optuna.pruners.MedianPruner(_LEAST, n_warmup_steps=run.steps // 2)
            if trial.should_prune():
                reason = f"worse than the median of earlier trials at step {step}"
                trial.set_user_attr(_PRUNED, reason)
                run.stop(reason)

        return Hook(follow, "tuning", {})

    def end(self, trial: optuna.Trial, value: float | None) -> None:
        """Keeps how a trial that trained to its end, or was pruned, has ended."""
        if reason := self._frozen(trial.number).user_attrs.get(_PRUNED):
            trial.set_user_attr(_REASON, reason)
            self._study.tell(trial, state=TrialState.PRUNED)
        elif value is None:
            self.fail(trial, f"{self.objective.text} has no finite value in it")
        else:
            self._study.tell(trial, value)

    def fail(self, trial: optuna.Trial, reason: str) -> None:
        """Keeps why a trial has failed."""
        trial.set_user_attr(_REASON, reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def chosen(self) -> Trial:
        """The best complete trial, the first of equals; raises RunError where there is none."""
        summary = self.summary()
        if summary.chosen is None:
            first = summary.trials[0].reason
            raise RunError(f"none of {len(summary.trials)} trials has a value of {self.objective.text}; first: {first}")
        return summary.trials[summary.chosen]

    def summary(self) -> Tuning:
        """All that has ended; what is chosen of it once there are enough."""
        ended = tuple(self._trial(each) for each in self._study.get_trials(deepcopy=False) if each.state in _STATES)
        complete = [each for each in ended if each.state == COMPLETE]
        sign = 1 if self.objective.mode == objectives.MIN else -1
        best = None
        if len(ended) >= self._wanted:
            best = min(complete, key=lambda each: sign * each.value, default=None)
        return Tuning(
            objective=self.objective.text,
            mode=self.objective.mode,
            seed=self.config.seed,
            wanted=self._wanted,
            space=_shown(self._space),
            trials=ended,
            chosen=None if best is None else best.number,
            settings={} if best is None else search_space.changes(self.config, best.values),
        )

    def _trial(self, frozen: FrozenTrial) -> Trial:
        values = {name: _rounded(value) for name, value in frozen.params.items()}
        state = _STATES[frozen.state]
        value = frozen.value if state == COMPLETE else None
        return Trial(frozen.number, values, state, value, frozen.user_attrs.get(_REASON, ""))

    def _frozen(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]


class _NoLock:
    """The lock of a journal that one process alone writes; Optuna's own would outlast a process that is killed."""

    def acquire(self) -> bool:
        """Does nothing."""
        return True

    def release(self) -> None:
        """Does nothing."""


def _suggested(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    search = parameter.search
    if isinstance(search, OneOf):
        return trial.suggest_categorical(name, search.values)
    return _rounded(trial.suggest_float(name, search.low, search.high, log=search.log))


def _rounded(value: Any) -> Any:
    return search_space.rounded(value) if isinstance(value, float) else value


def _shown(space: Mapping[str, Parameter]) -> dict[str, Any]:
    """The space as JSON has it."""
    searches = {name: each.search for name, each in space.items()}
    return {
        name: {"values": list(search.values)} if isinstance(search, OneOf) else dataclasses.asdict(search)
        for name, search in searches.items()
    }


def _cut_torn_line(journal: pathlib.Path) -> None:
    """Removes what a crash of the machine left of a last line, after which Optuna could not read another one."""
    if journal.is_file() and not (data := journal.read_bytes()).endswith(b"\n") and data:
        atomic_files.write_whole(journal, data[: data.rfind(b"\n") + 1])
