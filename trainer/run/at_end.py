"""The splits that are evaluated once, after the last step: with the best checkpoint's variables where a run has one."""

from trainer.common.errors import ConfigError, RunError
from trainer.output import checkpoint
from trainer.output.workdir import Workdir
from trainer.run.experiment import Experiment
from trainer.run.loop import End, Loop


def evaluate(steps: Loop, run: Workdir | None, end: End) -> None:
    """Evaluates these splits and publishes their reports, each of the step whose variables it is of; on all workers.

    Where that is the best one, its variables stay in the model.

    Args:
      steps: the loop, which has ended.
      run: on the chief, the run's directory.
      end: the end of the loop.

    Raises:
      RunError: the best checkpoint cannot be read.
    """
    built = steps.built
    if not built.evaluations.at_end:
        return
    best = steps.monitors.best_step
    step = steps.workers.broadcast_number(end.step if best is None else best)
    if step != end.step:
        steps.recorder.wait()  # it may be about to be written
        _restore(built, run, step, steps)
    for split in built.evaluations.at_end:
        steps.publish_split(split, step)


def _restore(built: Experiment, run: Workdir | None, step: int, steps: Loop) -> None:
    parts = {"model": checkpoint.model_state(built.model), **built.step.averages()}
    if run is not None:
        folder = checkpoint.folder_of(run.checkpoints, step)
        try:
            if (reason := checkpoint.damage(folder)) is not None:
                raise RunError(f"the best checkpoint, {folder.name}, cannot be evaluated: {reason}")
            checkpoint.restore(folder, parts)
        except ConfigError as error:
            raise RunError(f"the best checkpoint, {folder.name}, cannot be evaluated: {error}") from error
    steps.workers.broadcast_variables(parts)
