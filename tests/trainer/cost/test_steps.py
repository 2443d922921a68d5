"""Operations and bytes of a step against numbers worked out by hand."""

import dataclasses

import pytest

from trainer.cost.plans import Plan
from trainer.cost.steps import average, steps
from trainer.cost.workload import Operations, Variable, Workload

ALL, A, B, C = frozenset({0, 1, 2}), frozenset({0}), frozenset({1}), frozenset({2})
# A trunk of 1000 operations behind the input and 2000 further on; heads of 10, 20 and 30 operations; a head's layer of
# 5 that the last two losses share.
WORKLOAD = Workload(
    examples=4,
    losses=3,
    operations=(
        Operations(1000, ALL, (ALL,)),
        Operations(2000, ALL, (ALL, ALL)),
        Operations(5, B | C, (B | C, B | C)),
        Operations(10, A, (A, A)),
        Operations(20, B, (B, B), twice=1),
        Operations(30, C, (C, C)),
    ),
    variables=(
        Variable(700, 4, (0, 1, 2)),
        Variable(100, 4, (0, 1, 2)),
        Variable(7, 4, (1, 2)),
        *(Variable(size, 4, (k,)) for k, size in enumerate((1, 2, 3))),
    ),
    features=50,
    width=4,
)
TRUNK, HEADS = 1000 + 2 * 2000, 2 * (10 + 20 + 30)
ALL_VARIABLES = 700 + 100 + 7 + 1 + 2 + 3
SHARED_GRADIENTS = 3 * (700 + 100) + 2 * 7
EVERY_GRADIENT = SHARED_GRADIENTS + 1 + 2 + 3


def _only(plan: Plan, workload: Workload = WORKLOAD):
    ((share, cost),) = steps(workload, plan)
    assert share == 1
    return cost


@pytest.mark.parametrize(
    ("plan", "backward"),
    [
        (Plan("per_loss"), 3 * TRUNK + HEADS + 2 * 2 * 5),
        (Plan("fused"), TRUNK + HEADS + 2 * 5),
        (Plan("features", gramian=True), TRUNK + HEADS + 2 * 2 * 5),
        (Plan("per_loss", recompute=True), 3 * TRUNK + HEADS + 2 * 2 * 5 + 3 * 3000),
        (Plan("features", gramian=True, recompute=True), TRUNK + HEADS + 2 * 2 * 5 + 3000),
        (Plan("per_loss", micro_batches=4), 3 * TRUNK + HEADS + 2 * 2 * 5),
        (Plan("per_loss", halves=True), 6 * TRUNK + 2 * HEADS + 4 * 2 * 5),
        (Plan("per_loss", halves=True, recompute=True), 6 * TRUNK + 2 * HEADS + 4 * 2 * 5 + 6 * 3000),
        (Plan("per_loss", moving=True), 3 * TRUNK + HEADS + 2 * 2 * 5),
        (Plan("fused", heads_apart=True), TRUNK + HEADS + 2 * 5 + 20),
        (Plan("per_loss", heads_apart=True), 3 * TRUNK + HEADS + 2 * 2 * 5),
    ],
)
def test_passes(plan, backward):
    cost = _only(plan)
    assert cost.forward == 1000 + 2000 + 5 + 10 + 20 + 30
    assert cost.backward == backward


def test_losses_after_the_update():
    """One more forward pass, and one more collective."""
    plain, observed = _only(Plan("fused")), _only(Plan("fused", observes=True))
    assert dataclasses.replace(observed, forward=plain.forward, alone=()) == plain
    assert (observed.forward, observed.alone) == (2 * plain.forward, (4 * 6,))


@pytest.mark.parametrize(
    ("plan", "alone", "late"),
    [
        (Plan("per_loss"), (), (4 * (EVERY_GRADIENT + 6),)),
        (Plan("per_loss", missing=True, micro_batches=4, recompute=True), (), (4 * (EVERY_GRADIENT + 6),)),
        (Plan("per_loss", receivers="all"), (), (4 * (EVERY_GRADIENT + 6),)),
        (Plan("fused"), (), (4 * (ALL_VARIABLES + 6),)),
        (Plan("fused", missing=True), (4 * 6,), (4 * ALL_VARIABLES,)),
        (Plan("fused", loss_valued=True, missing=True), (4 * 6,), (4 * ALL_VARIABLES,)),
        (Plan("features", gramian=True), (8 * (9 + 6),), (4 * ALL_VARIABLES,)),
        (Plan("per_loss", reduce_width=2), (), (4 * 6, 2 * EVERY_GRADIENT)),
        (Plan("fused", loss_valued=True, reduce_width=2), (4 * 6,), (2 * ALL_VARIABLES,)),
        (Plan("fused", loss_valued=True, observes=True), (4 * 6, 4 * 6), (4 * ALL_VARIABLES,)),
        (Plan("per_loss", observes=True), (4 * 6,), (4 * (EVERY_GRADIENT + 6),)),
        (Plan("per_loss", halves=True), (), (4 * (2 * SHARED_GRADIENTS + 6 + 12),)),
        (Plan("per_loss", halves=True, micro_batches=4, missing=True), (), (4 * (2 * SHARED_GRADIENTS + 6 + 12),)),
        (Plan("per_loss", halves=True, reduce_width=2), (), (4 * 12, 2 * (2 * SHARED_GRADIENTS + 6))),
        (Plan("per_loss", moving=True, gramian=True), (), (4 * (EVERY_GRADIENT + 6),)),
        (Plan("per_loss", elementwise=True), (), (4 * (EVERY_GRADIENT + 6),)),
    ],
)
def test_payload(plan, alone, late):
    cost = _only(plan)
    assert (cost.alone, cost.late) == (alone, late)
    assert cost.reduced == sum(alone) + sum(late)


def test_numbers_of_another_width_travel_apart():
    wide = dataclasses.replace(WORKLOAD.variables[0], width=8)
    cost = _only(Plan(), dataclasses.replace(WORKLOAD, variables=(wide, *WORKLOAD.variables[1:])))
    assert sorted(cost.late) == sorted((8 * 3 * 700, 4 * (EVERY_GRADIENT - 3 * 700 + 6)))
    assert cost.packs == 2


@pytest.mark.parametrize(
    ("limit", "packs"),
    [
        (0, 1),
        (10**6, 1),
        (1, 2 + 3 * 2 + 2 + 3),
        # Bytes: 12 12, of the heads 12 8 4, of what two losses share 28, 400 | 2800 | 28 400 | 2800 | 400 2800.
        (400, 5),
    ],
)
def test_packs(limit, packs):
    """A pack takes tensors in the order in which they travel until it holds more than so many bytes."""
    assert _only(Plan(bytes_per_pack=limit)).packs == packs


@pytest.mark.parametrize(
    ("plan", "float64"),
    [
        (Plan(), 0),
        (Plan(gramian=True), 2 * 9 * (700 + 100) + 2 * 4 * 7),
        (Plan("features", gramian=True), 2 * 9 * 50),
        (Plan(gramian=True, moving=True), 2 * 9 * (700 + 100) + 2 * 4 * 7),
        (Plan(gramian=True, halves=True), 4 * (2 * 9 * (700 + 100) + 2 * 4 * 7)),
    ],
)
def test_gramian(plan, float64):
    assert _only(plan).float64 == float64


@pytest.mark.parametrize(
    ("plan", "combine", "applied"),
    [
        (Plan(), 5 * 800 + 3 * 7 + 6, ALL_VARIABLES),
        (Plan(receivers="own"), EVERY_GRADIENT, EVERY_GRADIENT),
        (Plan(receivers="all"), 3 * (5 * 800 + 3 * 7) + 6, 3 * 807 + 6),
        (Plan(clip=True), 5 * 800 + 3 * 7 + 6 + 3 * ALL_VARIABLES, ALL_VARIABLES),
        (Plan("fused"), ALL_VARIABLES, ALL_VARIABLES),
        # Of two halves the first one's gradients are mixed; the task-specific ones of both are added up.
        (Plan(halves=True), 5 * 800 + 3 * 7 + 6 + 6, ALL_VARIABLES),
        (Plan(halves=True, micro_batches=4), 5 * 800 + 3 * 7 + 6 + 4 * (2 * SHARED_GRADIENTS + 2 * 6), ALL_VARIABLES),
        (Plan(moving=True), 5 * 800 + 3 * 7 + 6 + 3 * SHARED_GRADIENTS, ALL_VARIABLES),
        (Plan(elementwise=True), 6 * SHARED_GRADIENTS + 6, ALL_VARIABLES),
    ],
)
def test_mixing_and_updates(plan, combine, applied):
    cost = _only(plan)
    assert cost.combine == combine
    assert cost.update == 10 * applied


@pytest.mark.parametrize(
    ("plan", "held"),
    [
        (Plan(), EVERY_GRADIENT),
        (Plan("fused"), ALL_VARIABLES),
        (Plan(halves=True), 2 * SHARED_GRADIENTS + 6),
        (Plan(moving=True), 2 * SHARED_GRADIENTS + 6),
    ],
)
def test_held(plan, held):
    assert _only(plan).held == 4 * held


def test_weights_found_now_and_then():
    """One full step of ten; the others are those of the plain sum, but for what precedes them."""
    full, plain = _only(Plan(gramian=True, missing=True)), _only(Plan("fused", missing=True))
    kinds = steps(WORKLOAD, Plan(gramian=True, missing=True, full_every=10))
    assert kinds == ((0.1, full), (0.9, plain))
    assert average(kinds, lambda cost: cost.reduced) == pytest.approx(0.1 * full.reduced + 0.9 * plain.reduced)


@pytest.mark.parametrize("kept", [{"heads_apart": True}, {"loss_valued": True}, {"observes": True}])
def test_what_a_method_does_in_every_step(kept):
    ((_, full), (_, between)) = steps(WORKLOAD, Plan(gramian=True, halves=True, full_every=10, **kept))
    assert full == _only(Plan(gramian=True, halves=True, **kept))
    assert between == _only(Plan("fused", **kept))


def test_the_first_losses():
    """What only the others need goes; what two of three shared may become one's own."""
    one, two = WORKLOAD.first(1), WORKLOAD.first(2)
    assert two.forward == 1000 + 2000 + 5 + 10 + 20
    assert sum(variable.size for variable in two.shared) == 800
    assert _only(Plan(), two).late == (4 * (2 * 800 + 7 + 1 + 2 + 4),)
    assert _only(Plan(), one).backward == _only(Plan("fused"), one).backward == TRUNK + 2 * 10
    assert WORKLOAD.first(3) == WORKLOAD
