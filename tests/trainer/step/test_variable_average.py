"""Moving averages of the variables, and evaluation on them."""

import numpy as np
import pytest

from tests import eager, problems
from trainer.run import experiment


def test_the_average_is_that_of_keras():
    """m · average + (1 - m) · variable after every step, the variable itself after the first; on every replica."""
    momentum, steps = 0.7, 6
    changes = problems.SIMPLE | {"ema": momentum, "combine__name": "pcgrad", "dataset__options": {"missing": True}}
    one, expected = experiment.build(problems.config(**changes), problems.strategy(1)), None
    loop = one.step.build()
    for step in range(steps):
        with eager.functions():
            variables = problems.train(one, 1, first_step=step, loop=loop).variables
        if expected is None:
            expected = variables
        expected = {name: momentum * expected[name] + (1 - momentum) * value for name, value in variables.items()}
    built = experiment.build(problems.config(**changes), problems.strategy(3))
    problems.train(built, steps)
    averages = built.step.updates.average.by_name
    assert set(averages) == set(expected)
    for name, average in averages.items():
        for component in average.values:
            np.testing.assert_allclose(component.numpy(), expected[name], rtol=0, atol=1e-9)


def test_in_place_and_back():
    built = experiment.build(problems.config(**problems.SIMPLE, ema=0.5), problems.strategy(2))
    with eager.functions():
        problems.train(built, 3)
    before = {variable.path: variable.numpy() for variable in built.model.trainable_variables}
    averages = {name: average.numpy() for name, average in built.step.updates.average.by_name.items()}
    evaluate = built.evaluator.build()
    plain = evaluate()
    with built.step.updates.average.in_place():
        for variable in built.model.trainable_variables:
            np.testing.assert_array_equal(variable.numpy(), averages[variable.path])
        averaged = evaluate()
    assert averaged != pytest.approx(plain)
    for variable in built.model.trainable_variables:
        for component in variable.value.values:
            np.testing.assert_array_equal(component.numpy(), before[variable.path])
    assert evaluate() == plain
