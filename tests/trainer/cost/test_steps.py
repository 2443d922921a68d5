"""Operations and bytes of a step against numbers worked out by hand."""

import dataclasses

import pytest

from trainer.config.plan import Way
from trainer.cost.machine import Machine
from trainer.cost.passes import Passes
from trainer.cost.steps import average, steps
from trainer.cost.workload import Gathered, Operations, Variable, Workload

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


def _only(passes: Passes, workload: Workload = WORKLOAD):
    ((share, cost),) = steps(workload, passes)
    assert share == 1
    return cost


@pytest.mark.parametrize(
    ("passes", "backward"),
    [
        (Passes(Way.PER_LOSS), 3 * TRUNK + HEADS + 2 * 2 * 5),
        (Passes(Way.FUSED), TRUNK + HEADS + 2 * 5),
        (Passes(Way.FEATURES, gramian=True), TRUNK + HEADS + 2 * 2 * 5),
        (Passes(Way.PER_LOSS, recompute=True), 3 * TRUNK + HEADS + 2 * 2 * 5 + 3 * 3000),
        (Passes(Way.FEATURES, gramian=True, recompute=True), TRUNK + HEADS + 2 * 2 * 5 + 3000),
        (Passes(Way.PER_LOSS, micro_batches=4), 3 * TRUNK + HEADS + 2 * 2 * 5),
        (Passes(Way.PER_LOSS, halves=True), 6 * TRUNK + 2 * HEADS + 4 * 2 * 5),
        (Passes(Way.PER_LOSS, halves=True, recompute=True), 6 * TRUNK + 2 * HEADS + 4 * 2 * 5 + 6 * 3000),
        (Passes(Way.PER_LOSS, moving=True), 3 * TRUNK + HEADS + 2 * 2 * 5),
        (Passes(Way.FUSED, heads_apart=True), TRUNK + HEADS + 2 * 5 + 20),
        (Passes(Way.PER_LOSS, heads_apart=True), 3 * TRUNK + HEADS + 2 * 2 * 5),
    ],
)
def test_passes(passes, backward):
    cost = _only(passes)
    assert cost.forward == 1000 + 2000 + 5 + 10 + 20 + 30
    assert cost.backward == backward


def test_losses_after_the_update():
    """One more forward pass, and one more collective."""
    plain, observed = _only(Passes(Way.FUSED)), _only(Passes(Way.FUSED, observes=True))
    assert dataclasses.replace(observed, forward=plain.forward, alone=()) == plain
    assert (observed.forward, observed.alone) == (2 * plain.forward, (4 * 6,))


def test_examples_of_all_replicas():
    """A collective for each dtype in each forward pass, as many times as large as there are replicas."""
    tensors = (Gathered(A, "float32", 400), Gathered(A | C, "int64", 32), Gathered(C, "float32", 80))
    compared = dataclasses.replace(WORKLOAD, gathered=tensors)
    plain, cost = _only(Passes()), _only(Passes(), compared)
    assert (cost.gathered, cost.collectives) == ((480, 32), plain.collectives + 2)
    assert cost.reduced_on(8) == plain.reduced + 8 * 512
    assert _only(Passes(Way.FUSED, observes=True), compared).gathered == (480, 32, 480, 32)
    assert _only(Passes(), compared.first(2)).gathered == (400, 32)
    link = Machine(1.0, 1.0, 1.0, 1.0, node_size=8, node_link_gbytes=1.0, link_gbytes=1.0, latency_us=0.0)
    more = link.step_seconds(cost, 8).reduce - link.step_seconds(plain, 8).reduce
    assert more == pytest.approx(2 * 7 / 8 * 8 * 512 / 1e9)


@pytest.mark.parametrize(
    ("passes", "alone", "late"),
    [
        (Passes(Way.PER_LOSS), (), (4 * (EVERY_GRADIENT + 6),)),
        (Passes(Way.PER_LOSS, missing=True, micro_batches=4, recompute=True), (), (4 * (EVERY_GRADIENT + 6),)),
        (Passes(Way.PER_LOSS, receivers="all"), (), (4 * (EVERY_GRADIENT + 6),)),
        (Passes(Way.FUSED), (), (4 * (ALL_VARIABLES + 6),)),
        (Passes(Way.FUSED, missing=True), (4 * 6,), (4 * ALL_VARIABLES,)),
        (Passes(Way.FUSED, loss_valued=True, missing=True), (4 * 6,), (4 * ALL_VARIABLES,)),
        (Passes(Way.FEATURES, gramian=True), (8 * (9 + 6),), (4 * ALL_VARIABLES,)),
        (Passes(Way.PER_LOSS, reduce_width=2), (), (4 * 6, 2 * EVERY_GRADIENT)),
        (Passes(Way.FUSED, loss_valued=True, reduce_width=2), (4 * 6,), (2 * ALL_VARIABLES,)),
        (Passes(Way.FUSED, loss_valued=True, observes=True), (4 * 6, 4 * 6), (4 * ALL_VARIABLES,)),
        (Passes(Way.PER_LOSS, observes=True), (4 * 6,), (4 * (EVERY_GRADIENT + 6),)),
        (Passes(Way.PER_LOSS, halves=True), (), (4 * (2 * SHARED_GRADIENTS + 6 + 12),)),
        (Passes(Way.PER_LOSS, halves=True, micro_batches=4, missing=True), (), (4 * (2 * SHARED_GRADIENTS + 6 + 12),)),
        (Passes(Way.PER_LOSS, halves=True, reduce_width=2), (), (4 * 12, 2 * (2 * SHARED_GRADIENTS + 6))),
        (Passes(Way.PER_LOSS, moving=True, gramian=True), (), (4 * (EVERY_GRADIENT + 6),)),
        (Passes(Way.PER_LOSS, elementwise=True), (), (4 * (EVERY_GRADIENT + 6),)),
    ],
)
def test_payload(passes, alone, late):
    cost = _only(passes)
    assert (cost.alone, cost.late) == (alone, late)
    assert cost.reduced == sum(alone) + sum(late)


def test_numbers_of_another_width_travel_apart():
    wide = dataclasses.replace(WORKLOAD.variables[0], width=8)
    cost = _only(Passes(), dataclasses.replace(WORKLOAD, variables=(wide, *WORKLOAD.variables[1:])))
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
    """A pack takes tensors in the order in which they travel until it holds more than `limit` bytes."""
    assert _only(Passes(bytes_per_pack=limit)).packs == packs


@pytest.mark.parametrize(
    ("passes", "float64"),
    [
        (Passes(), 0),
        (Passes(gramian=True), 2 * 9 * (700 + 100) + 2 * 4 * 7),
        (Passes(Way.FEATURES, gramian=True), 2 * 9 * 50),
        (Passes(gramian=True, moving=True), 2 * 9 * (700 + 100) + 2 * 4 * 7),
        (Passes(gramian=True, halves=True), 4 * (2 * 9 * (700 + 100) + 2 * 4 * 7)),
    ],
)
def test_gramian(passes, float64):
    assert _only(passes).float64 == float64


@pytest.mark.parametrize(
    ("passes", "combine", "applied"),
    [
        (Passes(), 5 * 800 + 3 * 7 + 6, ALL_VARIABLES),
        (Passes(receivers="own"), EVERY_GRADIENT, EVERY_GRADIENT),
        (Passes(receivers="all"), 3 * (5 * 800 + 3 * 7) + 6, 3 * 807 + 6),
        (Passes(clip=True), 5 * 800 + 3 * 7 + 6 + 3 * ALL_VARIABLES, ALL_VARIABLES),
        (Passes(Way.FUSED), ALL_VARIABLES, ALL_VARIABLES),
        # Of two halves the first one's gradients are mixed; the task-specific ones of both are added up.
        (Passes(halves=True), 5 * 800 + 3 * 7 + 6 + 6, ALL_VARIABLES),
        (Passes(halves=True, micro_batches=4), 5 * 800 + 3 * 7 + 6 + 4 * (2 * SHARED_GRADIENTS + 2 * 6), ALL_VARIABLES),
        (Passes(moving=True), 5 * 800 + 3 * 7 + 6 + 3 * SHARED_GRADIENTS, ALL_VARIABLES),
        (Passes(elementwise=True), 6 * SHARED_GRADIENTS + 6, ALL_VARIABLES),
    ],
)
def test_mixing_and_updates(passes, combine, applied):
    cost = _only(passes)
    assert cost.combine == combine
    assert cost.update == 10 * applied


@pytest.mark.parametrize(
    ("passes", "held"),
    [
        (Passes(), EVERY_GRADIENT),
        (Passes(Way.FUSED), ALL_VARIABLES),
        (Passes(halves=True), 2 * SHARED_GRADIENTS + 6),
        (Passes(moving=True), 2 * SHARED_GRADIENTS + 6),
    ],
)
def test_held(passes, held):
    assert _only(passes).held == 4 * held


def test_weights_found_now_and_then():
    """One full step of ten; the others are those of the plain sum, with whatever must precede them."""
    full, plain = _only(Passes(gramian=True, missing=True)), _only(Passes(Way.FUSED, missing=True))
    kinds = steps(WORKLOAD, Passes(gramian=True, missing=True, full_every=10))
    assert kinds == ((0.1, full), (0.9, plain))
    assert average(kinds, lambda cost: cost.reduced) == pytest.approx(0.1 * full.reduced + 0.9 * plain.reduced)


@pytest.mark.parametrize("kept", [{"heads_apart": True}, {"loss_valued": True}, {"observes": True}])
def test_what_a_method_does_in_every_step(kept):
    ((_, full), (_, between)) = steps(WORKLOAD, Passes(gramian=True, halves=True, full_every=10, **kept))
    assert full == _only(Passes(gramian=True, halves=True, **kept))
    assert between == _only(Passes(Way.FUSED, **kept))


def test_the_first_losses():
    """Operations that only the others need go; variables that two of three shared may become one's own."""
    one, two = WORKLOAD.first(1), WORKLOAD.first(2)
    assert two.forward == 1000 + 2000 + 5 + 10 + 20
    assert sum(variable.size for variable in two.shared) == 800
    assert _only(Passes(), two).late == (4 * (2 * 800 + 7 + 1 + 2 + 4),)
    assert _only(Passes(), one).backward == _only(Passes(Way.FUSED), one).backward == TRUNK + 2 * 10
    assert WORKLOAD.first(3) == WORKLOAD
