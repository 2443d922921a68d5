"""Combination methods of your own: functions whose parameters' names say what they look at.

In a copy, `--combine=my_file:steady` takes one. trainer/combine/README.md explains what they may look at.

bash launch/local.sh --config=configs/own_methods.py
"""

import ml_collections
import numpy as np
import tensorflow as tf

from configs import own_table


def equal_lengths(gramian, *, power=1.0):
    """Σ wₖ gₖ, wₖ = ‖gₖ‖^-power: with power 1 all gradients are equally long."""
    norms = tf.sqrt(tf.linalg.diag_part(gramian))
    return tf.math.divide_no_nan(1.0, norms**power)


def steady(losses, state, *, memory=0.9):
    """Σ wₖ gₖ, wₖ = 1 / the moving average of Lₖ: every loss counts relative to its own recent values."""
    average = tf.where(state["average"] == 0.0, losses, memory * state["average"] + (1 - memory) * losses)
    return tf.math.divide_no_nan(1.0, average), {"average": average}


steady.initial = lambda count: {"average": np.zeros(count)}


def get_config() -> ml_collections.ConfigDict:
    """Two heads on a table, whose losses are combined by a method of this file."""
    config = own_table.get_config()
    config.combine = {"name": "configs.own_methods:steady", "options": {"memory": 0.95}}  # in a copy: my_file:steady
    return config
