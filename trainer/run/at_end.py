"""The splits that are evaluated once, after the last step: with the best checkpoint's variables where a run has one."""

from trainer.output import checkpoint
from trainer.output.workdir import Workdir
from trainer.run.loop import End, Loop


def evaluate(steps: Loop, run: Workdir | None, end: End) -> None:
    """Evaluates these splits and publishes their reports, each of the step whose variables it is of; on all workers.

    Where that is the best one, its variables stay in the model. Where its checkpoint cannot be read, which is said, the
    last variables are evaluated.

    Args:
      steps: the loop, which has ended.
      run: on the chief, the run's directory.
      end: the end of the loop.

    Raises:
      ConfigError: the best checkpoint is none of this model's.
    """
    built, workers = steps.built, steps.workers
    if not built.evaluations.at_end:
        return
    step = workers.broadcast_number(end.step if run is None else _step(steps, run, end.step))
    if step != end.step:
        parts = {"model": checkpoint.model_state(built.model), **built.step.averages()}
        if run is not None:
            checkpoint.restore(checkpoint.folder_of(run.checkpoints, step), parts)
        workers.broadcast_variables(parts)
    for split in built.evaluations.at_end:
        steps.publish_split(split, step)


def _step(steps: Loop, run: Workdir, last: int) -> int:
    """The step whose variables are evaluated: of the best checkpoint if it can be read, else the last one."""
    best = steps.monitors.best_step
    if best in (None, last):
        return last
    steps.recorder.wait()  # it may be about to be written
    folder = checkpoint.folder_of(run.checkpoints, best)
    reason = checkpoint.damage(folder)
    if reason is None:
        return best
    splits = ", ".join(steps.built.evaluations.at_end)
    steps.recorder.say(
        f"warning: the best checkpoint, {folder.name}, cannot be read ({reason}); "
        f"{splits} {'are' if ', ' in splits else 'is'} evaluated with the last variables"
    )
    return last
