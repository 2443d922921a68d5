"""Combination methods on plain matrices: reference results, hand-checked values, properties."""

import pathlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from trainer.combine import aggregate
from trainer.combine.registry import METHODS, LooksAt
from trainer.common.errors import ConfigError

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
    """With losses, of which every method can make something, and enough rows for all."""
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
# Options.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("normalize", "divisors"), [("l2", "norm"), ("loss", "loss"), ("loss+", "both")])
def test_mgda_finds_its_weights_on_normalised_rows_and_applies_them_to_the_rows_themselves(normalize, divisors):
    losses, norms = np.array([2.0, 3.0]), np.linalg.norm(HAND, axis=1)
    divisor = {"norm": norms, "loss": losses, "both": losses * norms}[divisors][:, np.newaxis]
    rows = HAND / divisor
    # Of two rows the shortest combination is known in closed form.
    first = np.clip((rows[1] - rows[0]) @ rows[1] / np.sum((rows[0] - rows[1]) ** 2), 0, 1)
    expected = first * HAND[0] + (1 - first) * HAND[1]
    np.testing.assert_allclose(aggregate("mgda", HAND, losses=losses, normalize=normalize), expected, rtol=1e-9)


def test_the_longest_nash_step():
    """Without a limit its length is √K."""
    free = aggregate("nash_mtl", HAND, max_norm=0.0).numpy()
    assert np.linalg.norm(free) == pytest.approx(np.sqrt(2))
    np.testing.assert_allclose(aggregate("nash_mtl", HAND), free / np.sqrt(2), rtol=1e-12)
    np.testing.assert_allclose(aggregate("nash_mtl", HAND, max_norm=5.0), free, rtol=1e-12)


@pytest.mark.parametrize("name", ["upgrad", "dual_proj", "aligned_mtl", "config", "fair_grad"])
def test_preferences(name):
    """Equal ones change nothing; one that is nearly all for a loss follows that loss's gradient more."""
    equal = 1.0 if name in ("config", "fair_grad") else 1 / 3
    np.testing.assert_allclose(
        aggregate(name, THREE, preference=[equal] * 3), aggregate(name, THREE), rtol=1e-9, atol=1e-12
    )
    results = [aggregate(name, THREE, preference=p).numpy() for p in ([0.98, 0.01, 0.01], [0.01, 0.01, 0.98])]
    first, last = (result / np.linalg.norm(result) for result in results)
    assert first @ THREE[0] > last @ THREE[0]
    assert last @ THREE[2] > first @ THREE[2]


def test_a_preference_without_conflict_is_the_weighted_mean():
    rows = np.array([[1.0, 0.0, 0.5], [0.0, 2.0, 0.5]])
    for name in ("upgrad", "dual_proj"):
        np.testing.assert_allclose(
            aggregate(name, rows, preference=[0.2, 0.8]), 0.2 * rows[0] + 0.8 * rows[1], rtol=1e-9
        )


def test_fair_grad_with_a_preference_solves_its_equation():
    """G w = (w / p)^(-1/α)."""
    preference, alpha = np.array([0.5, 2.0]), 1.5
    result = aggregate("fair_grad", HAND, alpha=alpha, preference=preference.tolist()).numpy()
    w = np.linalg.lstsq(HAND.T, result, rcond=None)[0]
    np.testing.assert_allclose(HAND @ result, (w / preference) ** (-1 / alpha), rtol=1e-8)


@pytest.mark.parametrize("trim", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_trimmed_mean(trim, dtype):
    jacobian = np.random.RandomState(1).normal(size=(6, 40)).astype(dtype)
    expected = np.sort(jacobian, axis=0)[trim:-trim].mean(axis=0)
    np.testing.assert_allclose(aggregate("trimmed_mean", jacobian, trim=trim), expected, rtol=1e-5, atol=1e-7)
    active = [True, False, True, True, True, True]
    rest = np.sort(jacobian[np.array(active)], axis=0)[trim:-trim].mean(axis=0)
    np.testing.assert_allclose(
        aggregate("trimmed_mean", jacobian, active=active, trim=trim), rest, rtol=1e-5, atol=1e-7
    )


def test_graddrop_keeps_one_sign_as_often_as_it_is_pure():
    jacobian = np.repeat([[3.0], [-1.0], [0.5]], 20_000, axis=1)
    result = aggregate("graddrop", jacobian).numpy()
    assert set(np.unique(result)) == {-1.0, 3.5}
    purity = 0.5 * (1 + 2.5 / 4.5)
    assert np.mean(result > 0) == pytest.approx(purity, abs=0.015)  # four standard deviations
    leaky = aggregate("graddrop", jacobian, leak=0.25).numpy()
    np.testing.assert_allclose(leaky, 0.25 * 2.5 + 0.75 * result)


# ---------------------------------------------------------------------------------------------------------------------
# Properties.
# ---------------------------------------------------------------------------------------------------------------------

_FEW = hypothesis.settings(max_examples=15, deadline=None, derandomize=True, database=None)
_PROBLEMS = st.tuples(
    st.integers(0, 10**6), st.integers(2, 6), st.sampled_from(["random", "conflict", "aligned", "scaled"])
)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_inactive_rows_do_not_exist(name, options):
    """Four losses of which the second is inactive give what the other three alone give."""
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
    """But for methods whose weight does not depend on other losses."""
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


@pytest.mark.parametrize(
    ("arguments", "options", "field"),
    [
        (("pcgrd", HAND), {}, "name"),
        (("pcgrad", HAND), {"alpha": 1}, "combine.pcgrad.alpha"),
        (("normalized", HAND), {"per_variable": 3}, "combine.normalized.per_variable"),
        (("cagrad", HAND), {"c": 1.5}, "combine.cagrad.c"),
        (("cagrad", HAND), {"c": -0.1}, "combine.cagrad.c"),
        (("fair_grad", HAND), {"alpha": 0}, "combine.fair_grad.alpha"),
        (("upgrad", HAND), {"preference": [1.0]}, "combine.upgrad.preference"),
        (("upgrad", HAND), {"preference": [0.0, 0.0]}, "combine.upgrad.preference"),
        (("upgrad", HAND), {"preference": [1.0, -1.0]}, "combine.upgrad.preference.1"),
        (("fair_grad", HAND), {"preference": [1.0, 0.0]}, "combine.fair_grad.preference.1"),
        (("mgda", HAND), {"normalize": "l1"}, "combine.mgda.normalize"),
        (("mgda", HAND), {"normalize": "loss"}, "losses"),
        (("trimmed_mean", HAND), {}, "combine.trimmed_mean.trim"),
        (("famo", HAND), {"losses": [1.0, 2.0], "lower_bounds": [0.0]}, "combine.famo.lower_bounds"),
        (("famo", HAND), {"losses": [1.0, 2.0], "lower_bounds": 1.0}, "losses.0"),
        (("geometric", HAND), {}, "losses"),
        (("geometric", HAND), {"losses": [1.0, 0.0]}, "losses.1"),
        (("sum", HAND[0]), {}, "jacobian"),
        (("sum", HAND.astype(int)), {}, "jacobian"),
        (("sum", HAND), {"active": [True]}, "active"),
        (("sum", HAND), {"losses": [1.0]}, "losses"),
        (("sum", HAND), {"jacobian2": HAND}, "jacobian2"),
        (("modo", HAND), {"jacobian2": HAND[:, :2]}, "jacobian2"),
        (("weighted", HAND), {"weights": [1.0, 2.0, 3.0]}, "weights"),
    ],
)
def test_bad_arguments_are_named(arguments, options, field):
    with pytest.raises(ConfigError) as caught:
        aggregate(*arguments, **options)
    assert caught.value.field == field
