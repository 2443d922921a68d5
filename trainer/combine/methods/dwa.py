"""Dynamic weight average. https://arxiv.org/abs/1803.10704"""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine import problem as problem_lib
from trainer.combine.entry import POSITIVE, Between, Card, LooksAt, Method, options
from trainer.combine.problem import Answer, Problem, State
from trainer.common.schema import setting


def initial(count: int, *, temperature: float) -> dict[str, tf.Tensor]:
    """No epoch is known yet."""
    del temperature
    names = ("sum", "number", "last", "last_but_one")
    zeros = tf.zeros([count], tf.float64)
    return dict.fromkeys(names, zeros) | {"epochs": zeros, "epoch": tf.zeros([count], tf.int64)}


def weigh(problem: Problem, state: State, *, temperature: float = 2.0) -> Answer:
    """`dwa`: wₖ = K softmax(rₖ / T), where rₖ = last epoch's mean loss / that of the epoch before.

    Until two epochs are over, and for a loss that was active in fewer than two, rₖ = 1.

    Args:
      problem: needs `losses` and `epoch`.
      state: each loss's sum and number of values in the current epoch, the means of the two before, and how many epochs
        it has been active in.
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


DWA = Method(
    function=weigh,
    looks_at=LooksAt.LOSSES,
    summary="wₖ from how fast each loss fell over the last two epochs",
    paper=("Liu 2019", "https://arxiv.org/abs/1803.10704"),
    options=options(
        "dwa",
        temperature=setting(POSITIVE, 2.0, "T, how even the weights are", Between(0.5, 8, log=True)),
    ),
    initial=initial,
    weighs_task_specific=True,
    card=Card(
        formula=(
            "Σ wₖ gₖ, w = K softmax(r / T), rₖ = last epoch's mean loss / that of the epoch before; 1 until two epochs "
            "are over"
        ),
        work="two means for each loss",
        use=(
            "Losses of similar scale fall at different speeds over many epochs: those that fall slowly get somewhat "
            "more."
        ),
        avoid="The run has few epochs, or the losses' scales differ: it compares each loss with its own past alone.",
        differences=(
            "Means are over the steps in which a loss was active; a step belongs to the epoch of its batch's first "
            "example."
        ),
    ),
)
