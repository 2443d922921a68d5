"""Dynamic weight average. https://arxiv.org/abs/1803.10704"""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine import problem as problem_lib
from trainer.combine.problem import Answer, Problem, State


def initial(count: int, *, temperature: float) -> dict[str, tf.Tensor]:
    """No epoch is known yet."""
    del temperature
    names = ("sum", "number", "last", "last_but_one")
    zeros = tf.zeros([count], tf.float64)
    return dict.fromkeys(names, zeros) | {"epochs": zeros, "epoch": tf.zeros([count], tf.int64)}


def weigh(problem: Problem, state: State, *, temperature: float = 2.0) -> Answer:
    """`dwa`: wₖ = K softmax(rₖ / T), where rₖ = last epoch's mean loss / that of the epoch before.

    Until two epochs are over, and for a loss that was active in fewer than two, rₖ = 1.

    Differences from the authors' code: means are over the steps in which a loss was active; a step belongs to the epoch
    of its batch's first example.

    Args:
      problem: needs `losses` and `epoch`.
      state: each loss's sum and number of values in the current epoch, the means of the two before, and how many epochs
        it has been active in.
      temperature: T.
    """
    over = (problem.epoch > state["epoch"]) & (state["number"] > 0)
    mean = tf.math.divide_no_nan(state["sum"], state["number"])
    last, last_but_one = tf.where(over, mean, state["last"]), tf.where(over, state["last"], state["last_but_one"])
    epochs = state["epochs"] + tf.cast(over, tf.float64)
    ratios = tf.where(epochs >= 2, tf.math.divide_no_nan(last, last_but_one), 1.0)
    weights = problem_lib.count(problem.active) * problem_lib.masked_softmax(ratios / temperature, problem.active)
    return Answer(
        weights,
        {
            "sum": tf.where(~over, state["sum"], 0.0) + problem.losses,
            "number": tf.where(~over, state["number"], 0.0) + 1,
            "last": last,
            "last_but_one": last_but_one,
            "epochs": epochs,
            "epoch": tf.fill(state["epoch"].shape, problem.epoch),
        },
    )
