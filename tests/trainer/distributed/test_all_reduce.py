"""The traffic of a step between replicas: number of collectives, size and dtype of each."""

import numpy as np
import pytest
import tensorflow as tf

from tests import eager, problems
from trainer.run import experiment
from trainer.run.experiment import Experiment

LOSSES = 4
TRUNK, LABEL, NUMBER, VECTOR = 6 * 7 + 7, 7 * 4 + 4, 7 + 1, (7 * 5 + 5) + (5 * 3 + 3)
# The trunk by four losses, the vector's head by two; then Σ w·ℓ and Σ w of each loss.
PER_LOSS = LOSSES * TRUNK + LABEL + NUMBER + 2 * VECTOR + 2 * LOSSES
ONCE = TRUNK + LABEL + NUMBER + VECTOR
SGD = {"name": "sgd", "learning_rate": 0.1}
PLAIN = {f"losses__{name}__optimizer": SGD for name in problems.LOSSES} | {"shared_optimizer": SGD}
MISSING = {"dataset__options": {"missing": True}}


def _build(replicas: int, **changes) -> Experiment:
    return experiment.build(problems.config(**PLAIN | changes), problems.strategy(replicas))


def _sent(built: Experiment) -> list[tuple[int, str]]:
    """Size and dtype of every collective in the traced steps, as one replica sees them."""
    loop, iterator = built.step.build(), iter(built.batches(0))
    zero, state = tf.constant(0, tf.int64), built.step.initial_state()
    concrete = loop.get_concrete_function(iterator, zero, zero, tf.constant(True), state, built.step.initial_totals())
    seen, found = set(), []

    def walk(graph: tf.Graph) -> None:
        if id(graph) in seen:
            return
        seen.add(id(graph))
        found.extend(op for op in graph.get_operations() if "Collective" in op.type or "Nccl" in op.type)
        for function in graph._functions.values():
            walk(function.graph)

    walk(concrete.graph)
    assert {op.type for op in found} <= {"CollectiveReduceV2"}
    sent = sorted((op.inputs[0].shape.num_elements(), op.inputs[0].dtype.name) for op in found)
    replicas = built.strategy.num_replicas_in_sync
    assert sent == sorted(sent[::replicas] * replicas)  # every replica sends the same
    return sent[::replicas]


_FURTHER = [(2, "joint"), (2, "per_loss"), (3, "per_loss")]


@pytest.mark.parametrize(
    ("replicas", "apply"),
    [(3, "joint"), *(pytest.param(*each, marks=pytest.mark.ci_only) for each in _FURTHER)],
)
def test_gradients_are_reduced_exactly_once(replicas, apply):
    built = _build(replicas, combine__name="pcgrad", combine__apply=apply, **MISSING)
    assert _sent(built) == [(PER_LOSS, "float64")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"micro_batches": 5, "batch_size": 20}, [PER_LOSS]),
        pytest.param({"reduction": "fused"}, [ONCE + 2 * LOSSES, PER_LOSS], marks=pytest.mark.ci_only),
        ({"reduction": "fused"} | MISSING, [2 * LOSSES, ONCE, PER_LOSS]),  # PER_LOSS in a probe
        pytest.param(  # of which test_cost.py shows the same
            *({"reduction": "features", "combine__name": "pcgrad"} | MISSING, [LOSSES**2 + 2 * LOSSES, ONCE]),
            marks=pytest.mark.ci_only,
        ),
        ({"combine__update_every": 5, "combine__name": "pcgrad"}, [ONCE + 2 * LOSSES, PER_LOSS]),
    ],
)
def test_what_each_way_to_compute_a_step_sends(changes, expected):
    """The formulas of `trainer/step/__init__.py`."""
    assert _sent(_build(2, **changes)) == sorted((size, "float64") for size in expected)


def test_what_is_sent_does_not_grow_with_the_number_of_variables():
    """Four layers instead of one: the same single collective."""
    sent = _sent(_build(2, model__trunk=[{"layer": "Dense", "units": 7}] * 4))
    assert sent == [(PER_LOSS + LOSSES * 3 * (7 * 7 + 7), "float64")]


def test_gradients_can_travel_at_half_the_bytes():
    changes = {"precision": "float32", "combine__name": "pcgrad"}
    assert _sent(_build(2, **changes, reduce_dtype="bfloat16")) == [
        (2 * LOSSES, "float32"),
        (PER_LOSS - 2 * LOSSES, "bfloat16"),
    ]
    with eager.functions():
        exact, rounded = (problems.run(2, 1, **changes, reduce_dtype=dtype) for dtype in (None, "bfloat16"))
    np.testing.assert_allclose(rounded.losses, exact.losses, rtol=1e-6)
    np.testing.assert_allclose(rounded.grad_norms, exact.grad_norms, rtol=2**-8)
    assert not np.array_equal(rounded.grad_norms, exact.grad_norms)


def test_packs_of_about_a_size():
    """Each pack is closed by the gradient that makes it larger than asked for; together they hold everything."""
    sizes = [size for size, _ in _sent(_build(2, bytes_per_pack=8 * 100))]
    assert len(sizes) > 2
    assert sum(sizes) == PER_LOSS
    assert max(sizes) < 100 + 6 * 7


def test_layers_of_another_dtype_have_a_collective_of_their_own():
    trunk = [{"layer": "Dense", "units": 5, "dtype": "float64"}, {"layer": "Dense", "units": 5}]
    changes = {"model__trunk": trunk, "precision": "float32", "combine__name": "pcgrad"}
    assert sorted(dtype for _, dtype in _sent(_build(2, **changes))) == ["float32", "float64"]
    with eager.functions():
        one, two = (problems.run(replicas, 2, **changes) for replicas in (1, 2))
    np.testing.assert_allclose(one.losses, two.losses, rtol=1e-4)


def test_one_device_communicates_nothing():
    assert not _sent(experiment.build(problems.config(), tf.distribute.OneDeviceStrategy("/cpu:0")))
