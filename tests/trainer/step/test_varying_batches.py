"""Batches whose size varies: a smaller one is as if it were the size of all, on any number of replicas."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.run import build_step, experiment
from trainer.run.experiment import Experiment
from trainer.step.objectives import Objectives

NOMINAL, REAL = 11, 7  # examples


@pytest.fixture
def varying(monkeypatch) -> Callable[..., Experiment]:
    """Builds an experiment whose step takes batches of any size up to the configuration's."""

    def build(replicas: int, watch: Any = None, **changes: Any) -> Experiment:
        with monkeypatch.context() as context:
            made = functools.partial(Objectives, varying=True, watch=watch)
            context.setattr(build_step, "Objectives", made)
            return experiment.build(problems.config(**changes), problems.strategy(replicas))

    return build


def _examples(missing: bool, count: int = REAL) -> dict[str, Any]:
    split = problems.load(missing=missing)["train"]
    batch = {"inputs": split.inputs, "targets": split.targets} | ({"weights": split.weights} if missing else {})
    return tf.nest.map_structure(lambda rows: rows[10 : 10 + count], batch)


def _shared_out(batch: Any, sizes: Sequence[int], strategy: tf.distribute.Strategy) -> Any:
    """The batch on replicas, of which each has this many examples."""
    ends = np.cumsum([0, *sizes])

    def of_replicas(rows: np.ndarray) -> Any:
        parts = [tf.constant(rows[first:end]) for first, end in itertools.pairwise(ends)]
        return strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    return tf.nest.map_structure(of_replicas, batch)


def _take(built: Experiment, batches: Sequence[Any]) -> dict[str, np.ndarray]:
    """All that some steps leave: variables, optimizers, losses, norms, cosines."""
    step, state, totals = built.step, built.step.initial_state(), built.step.initial_totals()
    found = {}
    for number, batch in enumerate(batches):
        numbers = tf.constant(number, tf.int64), tf.constant(True)
        state, totals = step.one_step(iter([batch]), *numbers, state, totals)
        assert int(totals.failed_step) == -1
    found |= {variable.path: variable.numpy() for variable in built.model.variables}
    for group in built.optimizer_groups:
        found |= {f"{group.name}/{index}": np.array(own) for index, own in enumerate(group.optimizer.variables)}
    found |= {f"state/{name}": value.numpy() for name, value in built.step.remembered(state).items()}
    found |= {"losses": totals.losses.numpy(), "counts": totals.counts.numpy()}
    measured = totals.measured._asdict() if bool(totals.measured.measured) else {}
    return found | {f"measured/{name}": value.numpy() for name, value in measured.items()}


def _assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float = 1e-12) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance, err_msg=name)


WAYS = {
    "weighted": {"combine__name": "weighted"},
    "fused": {"combine__name": "weighted", "reduction": "fused", "probe_every": 3},
    "pcgrad": {"combine__name": "pcgrad"},
    "famo": {"combine__name": "famo"},
    "uncertainty, fused": {"combine__name": "uncertainty", "reduction": "fused", "probe_every": 3},
    "modo": {"combine__name": "modo"},
    "moco": {"combine__name": "moco"},
    "independent": {"combine__name": "independent"},
    "mgda, features": {"combine__name": "mgda", "reduction": "features"},
}
SIZES = {1: (7,), 2: (6, 1), 3: (4, 3, 0)}


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_as_a_batch_of_that_size(eagerly, varying, way, missing):
    """Two steps of 7 examples of at most 11, on 1, 2 and 3 replicas, of which one has none."""
    changes = problems.SIMPLE | {"dataset__options": {"missing": missing}} | WAYS[way]
    batch = _examples(missing)
    reference = experiment.build(problems.config(batch_size=REAL, **changes), problems.strategy(1))
    expected = _take(reference, [batch] * 2)
    for replicas, sizes in SIZES.items():
        built = varying(replicas, batch_size=NOMINAL, **changes)
        _assert_same(_take(built, [_shared_out(batch, sizes, built.strategy)] * 2), expected)
