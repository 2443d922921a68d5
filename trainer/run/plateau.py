"""The learning rates of a run that reduces them when a metric no longer improves, as its monitors have decided."""

from trainer.components import optimizers
from trainer.distributed.workers import Workers
from trainer.run.experiment import Experiment


def restore(built: Experiment, count: int, workers: Workers) -> None:
    """Gives the optimizers of all workers the rates after the chief's `count` of reductions, where the run has some."""
    if built.rate_scale is not None:
        built.rate_scale.assign(workers.broadcast_number(count))


def reduce(built: Experiment, count: int, step: int) -> str | None:
    """Gives the optimizers the rates after `count` reductions; returns a line that says which fell, if any.

    Args:
      built: the experiment, which reduces its rates.
      count: how often they are reduced in all.
      step: number of steps taken.
    """
    if count == built.rate_scale.count:
        return None
    before = optimizers.learning_rates(built.optimizer_groups, step)
    built.rate_scale.assign(count)
    fallen: dict[str, list[str]] = {}
    for name, rate in optimizers.learning_rates(built.optimizer_groups, step).items():
        if rate < before[name]:
            fallen.setdefault(f"from {before[name]:.6g} to {rate:.6g}", []).append(name)
    if not fallen:
        return None
    config = built.config.reduce_on_plateau
    changes = ", ".join(f"{change} ({', '.join(names)})" for change, names in fallen.items())
    return f"step {step}: no better {config.metric} in {config.patience} evaluations, learning rate {changes}"
