"""Combination methods on plain matrices: reference results, hand-checked values, properties."""

import os
import pathlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from trainer.combine import aggregate
from trainer.combine.registry import METHODS, LooksAt

REFERENCE = dict(np.load(pathlib.Path(__file__).with_name("reference_vectors.npz")))
CASES = sorted(key.removesuffix(".jacobian") for key in REFERENCE if key.endswith(".jacobian"))
# What the reference file calls each method, and the options it was computed with.
REFERENCED = {
    "sum": ("sum", {}),
    "mean": ("mean", {}),
    "weighted": ("sum", {}),
    "independent": ("sum", {}),
    "normalized": ("normalized", {}),
    "pcgrad": ("pcgrad", {}),
    "gradvac": ("pcgrad", {}),  # before its targets have moved
    "mgda": ("mgda", {}),
    "cagrad": ("cagrad_c0.4", {}),
    "imtl_g": ("imtlg", {}),
    "config": ("config", {}),
    "nash_mtl": ("nashmtl", {"max_norm": 0.0}),
    "fair_grad": ("fairgrad_a2", {}),
    "aligned_mtl": ("aligned_mtl", {}),
    "dual_proj": ("dualproj", {}),
    "upgrad": ("upgrad", {}),
}
# Methods without a reference result: `test_over_steps.py` computes them in NumPy, over several steps where they
# remember something; those of single elements are below.
IN_NUMPY = {
    *("random", "uncertainty", "dwa", "geometric", "log_sum", "smooth_tchebycheff", "famo", "gradnorm"),
    *("sdmgrad", "modo", "moco", "db_mtl", "graddrop", "trimmed_mean"),
}
ORDERED = ("pcgrad", "gradvac")  # with more than two losses a random order plays a part
HAND = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
THREE = np.vstack([HAND, [[1.0, -3.0, 2.0]]])
VARIANTS = [
    *((name, {}) for name in METHODS),
    ("normalized", {"per_variable": True}),
    *(("mgda", {"normalize": kind}) for kind in ("l2", "loss", "loss+")),
    ("nash_mtl", {"max_norm": 0.0}),
    ("fair_grad", {"alpha": 1.0}),
    ("graddrop", {"leak": 0.3}),
]
GRAMIAN = [variant for variant in VARIANTS if METHODS[variant[0]].looks_at is LooksAt.GRAMIAN and not variant[1]]
LOSSES = np.array([2.0, 3.0, 0.5, 1.25, 4.0, 0.75])
# By what power of the Jacobian's scale a result scales; None: it is no power.
DEGREES = dict.fromkeys(METHODS, 1.0) | {
    "normalized": 0.0,
    "nash_mtl": 0.0,
    "fair_grad": -1 / 3,
    "modo": None,
    "moco": None,
}


def _aggregate(name: str, jacobian: np.ndarray, **arguments) -> np.ndarray:
    """Aggregates with losses that every method accepts, and with a third row where a method needs one."""
    jacobian = np.asarray(jacobian)
    if name == "trimmed_mean" and len(jacobian) == 2:
        jacobian = np.vstack([jacobian, jacobian.mean(axis=0, keepdims=True).astype(jacobian.dtype)])
    return aggregate(name, jacobian, losses=LOSSES[: len(jacobian)], **arguments).numpy()


def _random_rows(seed: int, rows: int, columns: int, kind: str = "random") -> np.ndarray:
    random = np.random.RandomState(seed)
    jacobian = random.normal(size=(rows, columns))
    common = random.normal(size=columns)
    if kind == "conflict":
        jacobian -= 0.5 * common * np.sign(jacobian @ common)[:, np.newaxis] * random.uniform(size=(rows, 1))
    if kind == "aligned":
        jacobian += 2 * common
    if kind == "scaled":
        jacobian *= 10 ** random.uniform(-2, 2, size=(rows, 1))
    return jacobian


def test_every_method_has_a_reference():
    assert set(REFERENCED) | IN_NUMPY == set(METHODS)
    assert not set(REFERENCED) & IN_NUMPY


@pytest.mark.parametrize("name", REFERENCED)
@pytest.mark.parametrize("case", CASES)
def test_reference_results(name, case):
    reference, options = REFERENCED[name]
    jacobian, expected = REFERENCE[f"{case}.jacobian"], REFERENCE.get(f"{case}.{reference}")
    if expected is None:  # listed only where the order of projections plays no part, or where the answer is unique
        assert (name in ORDERED and len(jacobian) > 2) or case.endswith("deficient")
        return
    result = aggregate(name, jacobian, **options)
    assert result.dtype == "float32"
    assert np.linalg.norm(result - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("upgrad", {}, [0.2924, 1.9006, 1.9006]),
        ("dual_proj", {}, [0.5556, 1.1111, 1.1111]),
        ("nash_mtl", {"max_norm": 0.0}, [0.0766, 0.9985, 0.9985]),
        ("mgda", {}, [0, 1, 1]),
        ("pcgrad", {}, [0.5848, 3.8012, 3.8012]),
        ("gradvac", {}, [0.5848, 3.8012, 3.8012]),
        ("cagrad", {}, [0.3468, 1.1633, 1.1633]),
        ("imtl_g", {}, [0.0767, 1, 1]),
        ("aligned_mtl", {}, [0.2133, 0.9673, 0.9673]),
        ("config", {}, [0.1588, 2.0706, 2.0706]),
        ("fair_grad", {"alpha": 1.0}, [0.0766, 0.9985, 0.9985]),
        ("fair_grad", {}, [0.0313, 0.7908, 0.7908]),
    ],
)
def test_by_hand(name, options, expected):
    np.testing.assert_allclose(aggregate(name, HAND, **options), expected, atol=5.1e-5)


def _pcgrad_in_numpy(jacobian: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """The paper's algorithm 1, on vectors."""
    result = np.zeros(jacobian.shape[1])
    for i, row in enumerate(jacobian):
        projected = row.copy()
        for j in orders[i]:
            product = projected @ jacobian[j]
            if j != i and product < 0:
                projected -= product / (jacobian[j] @ jacobian[j]) * jacobian[j]
        result += projected
    return result


@pytest.mark.parametrize("step", range(5))
def test_pcgrad_is_the_papers_algorithm_for_some_order(step):
    """With three losses there are eight combinations of orders; the result must be one of them."""
    jacobian = np.random.RandomState(7).normal(size=(3, 5)) * [[1.0], [5.0], [0.2]]
    results = [aggregate(name, jacobian, step=step).numpy() for name in ORDERED]
    pairs = [[(1, 2), (2, 1)], [(0, 2), (2, 0)], [(0, 1), (1, 0)]]
    possible = [_pcgrad_in_numpy(jacobian, [a, b, c]) for a in pairs[0] for b in pairs[1] for c in pairs[2]]
    for result in results:
        assert min(np.abs(result - candidate).max() for candidate in possible) < 1e-12


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "random", "graddrop"])
def test_random_methods_depend_on_seed_and_step(name):
    jacobian = np.random.RandomState(7).normal(size=(5, 6))
    results = [aggregate(name, jacobian, seed=seed, step=step).numpy() for seed in range(3) for step in range(3)]
    assert len({result.tobytes() for result in results}) > 3
    np.testing.assert_array_equal(results[4], aggregate(name, jacobian, seed=1, step=1))


def test_weights():
    np.testing.assert_allclose(aggregate("weighted", HAND, weights=[2.0, 0.5]), 2 * HAND[0] + 0.5 * HAND[1])


def test_normalized_per_variable_has_the_floor_of_l2_normalize():
    tiny = np.array([[1e-9, 0.0], [0.0, 2.0]])
    np.testing.assert_allclose(aggregate("normalized", tiny, per_variable=True), [0.5e-3, 0.5])
    np.testing.assert_allclose(aggregate("normalized", tiny), [0.5, 0.5])


# ---------------------------------------------------------------------------------------------------------------------
# Properties.
# ---------------------------------------------------------------------------------------------------------------------

CI = os.environ.get("CI") == "true"
_FEW = hypothesis.settings(max_examples=15 if CI else 6, deadline=None, derandomize=True, database=None)
_PROBLEMS = st.tuples(
    st.integers(0, 10**6), st.integers(2, 6), st.sampled_from(["random", "conflict", "aligned", "scaled"])
)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_inactive_rows_do_not_exist(name, options):
    """Four losses, the second of them inactive, give what the other three alone give."""
    jacobian = np.random.RandomState(3).normal(size=(4, 8))
    kept = [0, 2, 3]
    if name in ORDERED:  # of three rows the order plays a part
        jacobian, kept = jacobian[:3], [0, 2]
    active = [k in kept for k in range(len(jacobian))]
    masked = aggregate(name, jacobian, losses=LOSSES[: len(jacobian)], active=active, **options)
    alone = aggregate(name, jacobian[kept], losses=LOSSES[kept], **options)
    if name == "random":  # other numbers are drawn for another K
        weights = np.linalg.lstsq(jacobian.T, masked.numpy(), rcond=None)[0]
        assert weights[1] == pytest.approx(0)
        assert weights.sum() == pytest.approx(1)
        return
    np.testing.assert_allclose(masked, alone, rtol=1e-9)


ALONE = {"log_sum": 1 / LOSSES[0], "smooth_tchebycheff": 1 / LOSSES[0]}


@pytest.mark.parametrize(("name", "options"), [variant for variant in VARIANTS if variant[0] != "trimmed_mean"])
def test_one_loss_shares_nothing_and_keeps_its_gradient(name, options):
    """The methods whose weight does not depend on other losses scale it."""
    row = np.array([[3.0, -4.0]])
    factor = 0.2 if options.get("per_variable") else ALONE.get(name, 1.0)
    np.testing.assert_allclose(_aggregate(name, row, **options), row[0] * factor, rtol=1e-7)


@pytest.mark.parametrize("name", [name for name, degree in DEGREES.items() if degree is not None])
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scaling_all_gradients(name, scale):
    expected = _aggregate(name, THREE) * scale ** DEGREES[name]
    np.testing.assert_allclose(_aggregate(name, THREE * scale), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "jacobian",
    [
        [[0.0, 0.0], [1.0, 2.0]],
        [[0.0, 0.0], [0.0, 0.0]],
        [[1.0, 2.0], [1.0, 2.0]],
        [[1.0, 2.0], [-1.0, -2.0]],
        [[1e-15, 2e-15], [-1e15, 3e15], [1.0, -1.0]],
    ],
    ids=["zero row", "all zero", "equal", "opposite", "scales"],
)
def test_finite_on_hard_cases(name, options, dtype, jacobian):
    result = _aggregate(name, np.array(jacobian, dtype), **options)
    assert result.dtype == dtype
    assert np.all(np.isfinite(result))


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.may_fall_back])
def test_opposite_rows_fall_back_to_the_mean_of_unit_rows(name):
    np.testing.assert_allclose(aggregate(name, [[1.0, 2.0], [-2.0, -4.0]]), [0.0, 0.0], atol=1e-12)
    if name in ("nash_mtl", "fair_grad"):  # the others find equal cosines in what is left
        np.testing.assert_allclose(aggregate(name, [[1.0, 0.0], [-2.0, 0.0], [0.0, 5.0]]), [0.0, 1 / 3], atol=1e-12)


@pytest.mark.parametrize("name", [name for name, _ in GRAMIAN])
def test_gramian_methods_commute_with_rotations(name):
    @_FEW
    @hypothesis.given(_PROBLEMS)
    def check(problem: tuple[int, int, str]) -> None:
        seed, count, kind = problem
        jacobian = _random_rows(seed, count, 7, kind)
        rotation, _ = np.linalg.qr(np.random.RandomState(seed).normal(size=(7, 7)))
        expected = _aggregate(name, jacobian) @ rotation
        scale = np.abs(expected).max()
        np.testing.assert_allclose(_aggregate(name, jacobian @ rotation), expected, rtol=1e-6, atol=1e-6 * scale)

    check()


@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name].random])
def test_the_order_of_rows_plays_no_part(name):
    @_FEW
    @hypothesis.given(_PROBLEMS)
    def check(problem: tuple[int, int, str]) -> None:
        seed, count, kind = problem
        count = 2 if name in ORDERED else max(count, 3)
        jacobian = _random_rows(seed, count, 7, kind)
        order = np.random.RandomState(seed).permutation(count)
        expected = aggregate(name, jacobian, losses=LOSSES[:count]).numpy()
        result = aggregate(name, jacobian[order], losses=LOSSES[order])
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())

    check()


@pytest.mark.parametrize("name", ["upgrad", "dual_proj", "mgda"])
def test_never_against_a_row(name):
    @_FEW
    @hypothesis.given(_PROBLEMS)
    def check(problem: tuple[int, int, str]) -> None:
        seed, count, kind = problem
        jacobian = _random_rows(seed, count, count, kind)
        result = _aggregate(name, jacobian)
        assert np.all(jacobian @ result >= -1e-6 * np.linalg.norm(jacobian) * np.linalg.norm(result))

    check()


@pytest.mark.parametrize("name", ["nash_mtl", "imtl_g"])
@pytest.mark.parametrize("seed", range(4))
def test_two_losses_bargain_for_the_bisector(name, seed):
    jacobian = _random_rows(seed, 2, 5, "scaled")
    bisector = np.sum(jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True), axis=0)
    result = _aggregate(name, jacobian)
    cosine = result @ bisector / np.linalg.norm(result) / np.linalg.norm(bisector)
    assert abs(cosine) == pytest.approx(1, abs=1e-9)
