"""State and totals of a step: the order in which TensorFlow flattens them, and their names in checkpoints."""

import tensorflow as tf

from tests import problems
from trainer.run import experiment, resume
from trainer.step.values import State, Totals

STATE = ["loss_scale.scale", "loss_scale.good_steps", "coefficients", "combination.high", "combination.low"]
TOTALS = [
    "losses",
    "counts",
    "fallbacks",
    "failed_step",
    "failed",
    "failed_losses",
    "cosine_sums",
    "cosine_counts",
    "measured.measured",
    "measured.active",
    "measured.grad_norms",
    "measured.cosines",
    "measured.coefficients",
]


def _paths(structure, path: str = "") -> list[str]:
    """The leaves' paths, in the order of `tf.nest.flatten`."""
    if hasattr(structure, "_fields"):
        entries = [(name, getattr(structure, name)) for name in structure._fields]
    elif isinstance(structure, dict):
        entries = sorted(structure.items())
    else:
        return [path]
    return [leaf for name, value in entries for leaf in _paths(value, f"{path}.{name}" if path else name)]


def test_flatten_order():
    built = experiment.build(problems.config(combine__name="pcgrad"), problems.strategy(1))
    remembered = {"low": tf.constant(1), "high": tf.constant(2)}  # dictionaries are flattened by name
    state = built.step.initial_state()._replace(combination=remembered)
    assert _paths(state) == STATE
    assert [int(leaf) for leaf in tf.nest.flatten(state)[3:]] == [2, 1]
    totals = built.step.initial_totals()
    assert _paths(totals) == TOTALS
    assert State._fields == ("loss_scale", "coefficients", "combination")
    assert len(tf.nest.flatten(totals)) == len(TOTALS)
    assert Totals._fields[-1] == "measured"


def test_names_in_checkpoints():
    """The names in a run with every kind of state that there is."""
    changes = {"combine__name": "moco", "combine__smoothing": 0.5, "precision": "mixed_float16", "ema": 0.5}
    built = experiment.build(problems.config(**changes), problems.strategy(1))
    parts = resume.everything(built, built.step.initial_state(), built.step.initial_totals())
    losses = [f"optimizers/{name}" for name in ("label", "number")]
    assert list(parts) == [
        "model",
        "optimizers/shared",
        *losses,
        "since_report",
        "step",
        "average",
        "gradient_averages",
    ]
    measured = ("measured", "active", "grad_norms", "cosines", "coefficients")
    sums = ["losses", "counts", "fallbacks", "cosine_sums", "cosine_counts"]
    names = [*sums, *(f"measured/{name}" for name in measured)]
    assert list(parts["since_report"]) == names
    assert list(parts["step"]) == ["scale", "good_steps", "combination/weights", "combination/smoothed"]
    assert list(parts["average"]) == list(built.reach.names)
    assert list(parts["gradient_averages"])[:4] == [f"{name}/trunk_0_dense/kernel" for name in problems.LOSSES]
    lasting = experiment.build(problems.config(combine__name="pcgrad", combine__update_every=2), problems.strategy(1))
    carried = lasting.step.checkpointed(lasting.step.initial_state(), lasting.step.initial_totals())
    assert list(carried["step"]) == ["coefficients"]


def test_a_fused_step_neither_measures_nor_adds_cosines():
    """Its totals hand on the very tensors that they were given: no operation is spent on them."""
    built = experiment.build(problems.config(reduction="fused", **problems.SIMPLE), problems.strategy(1))
    state, before = built.step.initial_state(), built.step.initial_totals()
    number = tf.constant(0, tf.int64)
    _, totals = built.step.one_step(iter(built.batches(0)), number, tf.constant(False), state, before)
    assert float(totals.counts[0]) == 1
    assert totals.cosine_sums is before.cosine_sums
    assert totals.cosine_counts is before.cosine_counts
    assert totals.measured is before.measured
