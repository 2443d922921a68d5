"""The layout of gradients that suits GPUs gives what that of CPUs gives, in float64 to 1e-12."""

import dataclasses
from typing import Any
from unittest import mock

import pytest

from tests import eager, problems
from trainer.combine.registry import METHODS
from trainer.distributed import strategy as strategy_lib
from trainer.gradients import layout
from trainer.run import experiment
from trainer.run.experiment import Experiment

STEPS = 3
_GPU = dataclasses.replace(layout.GPU, piece=4 * 64)  # several pieces, also of these few variables


def _experiment(replicas: int, given: layout.Layout, **changes: Any) -> Experiment:
    changes = {"dataset__options": {"missing": True}, **changes}
    with mock.patch.object(strategy_lib, "layout", return_value=given):
        return experiment.build(problems.config(**changes), problems.strategy(replicas))


@pytest.mark.parametrize("name", problems.methods())
def test_methods(name):
    apply = "per_loss" if METHODS[name].per_loss else "joint"
    changes = {"combine__name": name, "combine__apply": apply}
    with eager.functions():
        result = problems.train(_experiment(1, _GPU, **changes), STEPS)
        expected = problems.train(_experiment(1, layout.CPU, **changes), STEPS)
    problems.assert_same(result, expected, tolerance=1e-12)


@pytest.mark.ci_only
@pytest.mark.parametrize("changes", [{"micro_batches": 2}, {"clip_norm": 0.05, "bytes_per_pack": 100}])
def test_on_three_replicas(changes):
    changes |= {"combine__name": "upgrad", "batch_size": 12}
    result = problems.train(_experiment(3, _GPU, **changes), STEPS)
    with eager.functions():
        expected = problems.train(_experiment(1, layout.CPU, **changes), STEPS)
    problems.assert_same(result, expected, tolerance=1e-11)


def test_shared_variables_of_the_same_losses_are_joined():
    built = _experiment(1, _GPU, combine__name="pcgrad")
    joined = layout.join(built.reach)
    found = sorted((len(by), len(group)) for by, group in zip(joined.reach.losses, joined.groups, strict=True))
    # The trunk's kernel and bias, which four losses reach; those of the head that two share; the other two heads'.
    assert found == [(1, 1)] * 4 + [(2, 4), (4, 2)]
    assert sorted(v for group in joined.groups for v in group) == list(range(len(built.reach.variables)))
    assert built.step.computation.view.owners == joined.reach
