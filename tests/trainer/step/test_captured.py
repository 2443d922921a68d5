"""The values of all variables that a traced function captures."""

import numpy as np
import tensorflow as tf

from tests import problems
from trainer.step.captured import CapturedValues


def test_every_variable_gets_its_value_back_on_every_device():
    """One that is read, one that is only assigned to, one within a condition; on two devices with values of each."""
    strategy = problems.strategy(2)
    kinds = {"synchronization": tf.VariableSynchronization.ON_READ, "aggregation": tf.VariableAggregation.SUM}
    with strategy.scope():
        own = tf.Variable([1.0, 2.0], trainable=False, **kinds)
    read, assigned, conditional = tf.Variable(-0.0), tf.Variable("before"), tf.Variable([1, 2], dtype=tf.int64)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["key"], [1]), 0)

    @tf.function
    def change():
        strategy.run(lambda: own.assign_add([1.0, 1.0]))
        assigned.assign("after")
        tf.cond(read > -1.0, lambda: conditional.assign([3, 4]), lambda: conditional)
        read.assign_add(tf.cast(table.lookup(tf.constant("key")), tf.float32))

    strategy.experimental_local_results(own)[1].assign([np.nan, 5.0])
    of_devices = strategy.experimental_local_results(own)

    def values():
        return [np.array(each.numpy()).tobytes() for each in (*of_devices, read, assigned, conditional)]

    before, captured = values(), CapturedValues([change.get_concrete_function()])
    for _ in range(2):
        change()
        assert all(one != other for one, other in zip(values(), before, strict=True))
        captured.restore()
        assert values() == before
