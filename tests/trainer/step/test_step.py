"""One step: against numbers worked out by hand, what it communicates, and when it changes nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import eager, problems
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.run import experiment
from trainer.run.experiment import Experiment

SGD = {"name": "sgd", "learning_rate": 1.0}


def _build(replicas: int, **changes) -> Experiment:
    return experiment.build(problems.config(**changes), problems.strategy(replicas))


def _one_step(built: Experiment, count: int = 1, *, first: int = 0, loop=None):
    loop, iterator = loop or built.step.build(), iter(built.batches(first))
    numbers = (tf.constant(value, tf.int64) for value in (first, count))
    return loop(iterator, *numbers, tf.constant(True), built.step.initial_state(), built.step.initial_totals())[1]


@pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.ci_only), 2])
def test_pcgrad_combines_reduced_gradients(replicas):
    """The worked case of two replicas: (1, 1); combining on each replica first would give (1.25, 1.25)."""
    tree = {
        "batch_size": 2,
        "dataset": {"name": "tests.problems:linear_rows"},
        "model": {"name": "tests.problems:linear_rows_model"},
        "losses": {k: {"head": k, "target": "none", "loss": "tests.problems:output_itself"} for k in ("a", "b")},
        "shared_optimizer": SGD,
        "combine": {"name": "pcgrad"},
    }
    built = experiment.build(loading.resolve(tree), problems.strategy(replicas))
    _one_step(built)
    np.testing.assert_allclose(built.model.trainable_variables[0].numpy()[:, 0], [-1.0, -1.0], atol=1e-6)


def test_float32_sgd_step_by_hand():
    """x = 1..4, prediction w·x with w = 1, target 0: the squared loss has gradient 2·7.5, the absolute one 2.5."""
    tree = {
        "batch_size": 4,
        "dataset": {"name": "tests.trainer.step.test_step:one_to_four"},
        "model": {"heads": {"y": [{"layer": "Dense", "units": 1, "use_bias": False, "kernel_initializer": "ones"}]}},
        "losses": {
            "squared": {"head": "y", "target": "zero", "loss": "mse"},
            "absolute": {"head": "y", "target": "zero", "loss": "mae", "weight": 0.5},
        },
        "shared_optimizer": {"name": "sgd", "learning_rate": 0.01},
    }
    built = experiment.build(loading.resolve(tree), problems.strategy(2))
    totals = _one_step(built)
    np.testing.assert_allclose(totals.losses.numpy(), [7.5, 2.5], rtol=1e-6)
    np.testing.assert_allclose(totals.measured.grad_norms.numpy(), [15.0, 2.5], rtol=1e-6)
    np.testing.assert_allclose(built.model.trainable_variables[0].numpy(), [[1 - 0.01 * (15 + 0.5 * 2.5)]], rtol=1e-6)


def one_to_four():
    split = problems.Examples(np.array([[1.0], [2.0], [3.0], [4.0]]), {"zero": np.zeros((4, 1))})
    return {"train": split, "validation": split}


# ---------------------------------------------------------------------------------------------------------------------
# When it changes nothing, or less.
# ---------------------------------------------------------------------------------------------------------------------


def _state(built: Experiment) -> list[keras.Variable]:
    return [*built.model.trainable_variables, *(v for u in built.optimizer_groups for v in u.optimizer.variables)]


@pytest.mark.parametrize("apply", ["joint", pytest.param("per_loss", marks=pytest.mark.ci_only)])
def test_non_finite_step_touches_nothing(apply):
    """The fourth loss explodes some steps in, within one call of the loop."""
    changes = {
        "losses__vector_l1__loss": "tests.problems:exploding_loss",
        "losses__vector_l1__optimizer": {"name": "sgd", "learning_rate": 0.5},
        "shared_optimizer": {"name": "sgd", "learning_rate": 0.5},
        "combine__apply": apply,
    }
    built = _build(2, **changes)
    start, loop = [np.array(variable) for variable in _state(built)], built.step.build()
    totals = _one_step(built, count=20, loop=loop)
    failed = int(totals.failed_step)
    assert 0 < failed < 19
    failed_losses = dict(zip(problems.LOSSES, totals.failed.numpy(), strict=True))
    assert failed_losses["vector_l1"]
    assert not failed_losses["label"]
    stopped = [np.array(variable) for variable in _state(built)]
    for variable, value in zip(_state(built), start, strict=True):
        variable.assign(value)
    assert int(_one_step(built, count=failed, loop=loop).failed_step) == -1
    for value, expected in zip(stopped, _state(built), strict=True):
        np.testing.assert_array_equal(value, np.array(expected))


@pytest.mark.parametrize("apply", ["joint", pytest.param("per_loss", marks=pytest.mark.ci_only)])
def test_optimizer_of_an_inactive_loss_rests(eagerly, apply):
    built = _build(2, **problems.SIMPLE, combine__apply=apply, dataset__options={"missing": True})
    result = problems.train(built, 10)
    active = ~np.isnan(result.losses[:, problems.LOSSES.index("number")])
    assert 0 < active.sum() < 10
    assert result.optimizers["number/iteration"] == active.sum()
    assert result.optimizers["vector/iteration" if apply == "per_loss" else "shared/iteration"] == 10


@pytest.mark.parametrize("apply", ["joint", "per_loss"])
def test_clip_norm_bounds_what_is_applied(eagerly, apply):
    """With plain SGD at rate 1 the change of all variables is the applied gradient."""
    names = problems.LOSSES
    changes = {f"losses__{name}__optimizer": SGD for name in names} | {"shared_optimizer": SGD, "combine__apply": apply}
    free, clipped = (_build(3, **problems.SIMPLE | changes, clip_norm=norm) for norm in (None, 1e-3))
    starts = [[variable.numpy() for variable in built.model.trainable_variables] for built in (free, clipped)]
    changed = []
    for built, start in zip((free, clipped), starts, strict=True):
        _one_step(built)
        changed.append(
            [variable.numpy() - value for variable, value in zip(built.model.trainable_variables, start, strict=True)]
        )
    norms = [np.sqrt(sum(np.sum(change**2) for change in changes)) for changes in changed]
    if apply == "joint":  # one norm over everything, the direction kept
        assert norms[1] == pytest.approx(1e-3, rel=1e-9)
        for before, after in zip(*changed, strict=True):
            np.testing.assert_allclose(after, before * (1e-3 / norms[0]), rtol=1e-9, atol=1e-15)
    else:  # every loss's own update has a norm of at most 1e-3
        assert norms[1] < 4e-3
        assert norms[0] > 0.1


def test_independent_applies_each_loss_by_its_own_optimizer(eagerly):
    """SGD with its own rate per loss: the shared variables move by Σ rateₖ wₖ gₖ."""
    rates = dict(zip(problems.LOSSES, (0.1, 0.2, 0.3, 0.4), strict=True))
    optimizers = {f"losses__{name}__optimizer": {"name": "sgd", "learning_rate": rate} for name, rate in rates.items()}
    built = _build(2, **optimizers, combine__name="independent")
    weights = built.step.objectives.loss_weights
    variables = built.model.trainable_variables
    start = [variable.numpy() for variable in variables]

    batches = [problems.tf.nest.map_structure(lambda x: x.numpy(), b) for b in _replica_batches(built)]
    whole = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)
    with tf.GradientTape(persistent=True) as tape:
        outputs = built.model(whole["inputs"], training=True)
        losses = [
            tf.reduce_mean(loss.function(whole["targets"][loss.target], outputs[loss.head])) for loss in built.losses
        ]
    gradients = [tape.gradient(loss, [v.value.values[0] for v in variables]) for loss in losses]
    _one_step(built)
    for v, variable in enumerate(variables):
        expected = start[v] - sum(
            rate * weight * own[v]
            for rate, weight, own in zip(rates.values(), weights, gradients, strict=True)
            if own[v] is not None
        )
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-9, atol=1e-12)


def _replica_batches(built: Experiment) -> list:
    return list(_local(built, next(iter(built.batches(0)))))


def _local(built: Experiment, batch):
    flat = [built.strategy.experimental_local_results(part) for part in tf.nest.flatten(batch)]
    return [tf.nest.pack_sequence_as(batch, list(parts)) for parts in zip(*flat, strict=True)]


@pytest.mark.parametrize("apply", ["joint", pytest.param("per_loss", marks=pytest.mark.ci_only)])
@pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.ci_only), 3])
def test_regularizer_is_added_once(eagerly, apply, replicas):
    """An L2 penalty of λ‖v‖² changes an SGD update by -2λ v exactly, however many replicas and losses there are."""
    names = problems.LOSSES
    sgd = {f"losses__{name}__optimizer": SGD for name in names} | {"shared_optimizer": SGD, "combine__apply": apply}
    after = []
    for regularizer in (None, {"class_name": "L2", "config": {"l2": 0.0625}}):
        trunk = [{"layer": "Dense", "units": 5, "kernel_regularizer": regularizer}]
        built = _build(replicas, **problems.SIMPLE | sgd | {"model__trunk": trunk}, combine__name="mean")
        start = built.model.trainable_variables[0].numpy()
        _one_step(built)
        after.append(built.model.trainable_variables[0].numpy())
    np.testing.assert_allclose(after[1] - after[0], -0.125 * start, rtol=1e-9, atol=1e-12)


_ONLY_CI = [pytest.param(name, 1, marks=pytest.mark.ci_only) for name in ("weighted", "mean", "normalized")]


@pytest.mark.parametrize("apply", ["joint", pytest.param("per_loss", marks=pytest.mark.ci_only)])
@pytest.mark.parametrize(("name", "replicas"), [("pcgrad", 2), *_ONLY_CI])
def test_one_loss_alone_and_heads_that_share_nothing_train(name, replicas, apply):
    """`pcgrad`, whose Gramian is of nothing then, on two replicas."""
    tree = problems.tree(**problems.SIMPLE | {"combine__name": name, "combine__apply": apply, "model__trunk": []})
    alone = {
        **tree,
        "losses": {"number": tree["losses"]["number"]},
        "model": {"heads": {"number": tree["model"]["heads"]["number"]}},
    }
    for variant in (tree, alone):
        if variant is tree:
            del variant["losses"]["vector_l1"]
        built = experiment.build(loading.resolve(variant), problems.strategy(replicas))
        assert not built.step.reach.shared
        result = problems.train(built, 30)
        assert np.all(result.losses[-1] < result.losses[0])


def test_task_specific_gradients_are_scaled_as_each_method_says(eagerly):
    """One SGD step of the label's own head: `weighted` scales it, `mean` and `pcgrad` do not."""
    changes = {f"losses__{name}__optimizer": SGD for name in problems.LOSSES} | {"losses__label__weight": 3.0}
    moved = {}
    for name, more in (
        ("sum", {}),
        ("weighted", {}),
        ("mean", {}),
        ("pcgrad", {}),
        ("normalized", {"combine__normalized": {"per_variable": True}}),
    ):
        built = _build(1, **changes, **more, combine__name=name)
        (kernel,) = (
            variable for variable in built.model.trainable_variables if variable.path == "head_label_0_dense/kernel"
        )
        start = kernel.numpy()
        _one_step(built)
        moved[name] = kernel.numpy() - start
    for name in ("mean", "pcgrad"):
        np.testing.assert_allclose(moved[name], moved["sum"], rtol=1e-9)
    np.testing.assert_allclose(moved["weighted"], 3 * moved["sum"], rtol=1e-9)
    np.testing.assert_allclose(moved["normalized"], moved["sum"] / np.linalg.norm(moved["sum"]), rtol=1e-9)


def _variables(built: Experiment) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in built.model.trainable_variables}


def _steps(built: Experiment, first: int, count: int) -> tf.Tensor:
    """Trains `count` steps from step `first` on; returns in how many each loss took part."""
    return _one_step(built, count, first=first).counts


def test_losses_take_turns(eagerly):
    """`every` and `offset`: in the steps of others a loss moves nothing, as if it had no label."""
    turns = {"losses__number__every": 2, "losses__number__offset": 1, "losses__label__every": 3}
    built = _build(2, **turns)
    before = _variables(built)
    np.testing.assert_array_equal(_steps(built, 0, 1), [1, 0, 1, 1])  # label, number, vector, vector_l1
    after = _variables(built)
    assert np.array_equal(after["head_number_0_dense/kernel"], before["head_number_0_dense/kernel"])
    assert not np.array_equal(after["head_label_0_dense/kernel"], before["head_label_0_dense/kernel"])
    # The trunk moves as it does without the loss.
    without = _build(2, losses__number__weight=0.0)
    _steps(without, 0, 1)
    np.testing.assert_allclose(
        after["trunk_0_dense/kernel"], _variables(without)["trunk_0_dense/kernel"], rtol=0, atol=1e-15
    )
    np.testing.assert_array_equal(_steps(built, 1, 1), [0, 1, 1, 1])
    assert np.array_equal(_variables(built)["head_label_0_dense/kernel"], after["head_label_0_dense/kernel"])
    assert not np.array_equal(_variables(built)["head_number_0_dense/kernel"], after["head_number_0_dense/kernel"])
    np.testing.assert_array_equal(_steps(built, 2, 4), [1, 2, 4, 4])


@pytest.mark.parametrize("combine", ["weighted", "independent", pytest.param("pcgrad", marks=pytest.mark.ci_only)])
def test_a_loss_that_updates_only_some_variables(eagerly, combine):
    """An adversary's scheme: the head learns from one loss, the trunk from the others."""
    patterns = {"losses__label__variables": ["head_label_*"], "losses__number__variables": "trunk_*"}
    built = _build(2, combine__name=combine, **patterns)
    before = _variables(built)
    _steps(built, 0, 2)
    changed = {name for name, value in _variables(built).items() if not np.array_equal(value, before[name])}
    assert changed == {name for name in before if not name.startswith("head_number")}
    reached = {v.path: by for v, by in zip(built.step.reach.variables, built.step.reach.losses, strict=True)}
    assert reached["trunk_0_dense/kernel"] == (1, 2, 3)
    assert reached["head_label_0_dense/kernel"] == (0,)
    assert built.step.reach.unreached == ("head_number_0_dense/kernel", "head_number_0_dense/bias")


@pytest.mark.parametrize("patterns", ["head_nmber*", ["trunk_*", "head_label_*"]])
def test_a_pattern_that_matches_nothing_is_named(patterns):
    with pytest.raises(ConfigError, match="losses.number.variables.[01]='head_.*': matches none of .*trunk_0_dense/ke"):
        _build(1, losses__number__variables=patterns)


@pytest.mark.parametrize("combine", ["weighted", pytest.param("independent", marks=pytest.mark.ci_only)])
def test_weights_follow_a_schedule(combine):
    """One step with the first weight, then one with the second."""
    schedule = {"name": "piecewise_constant_decay", "boundaries": [0], "values": [0.25, 2.0]}
    changes = problems.SIMPLE | {"combine__name": combine}
    scheduled = _build(2, **changes, losses__number__weight=schedule)
    _steps(scheduled, 0, 2)
    with eager.functions():
        first = _build(2, **changes, losses__number__weight=0.25)
        _steps(first, 0, 1)
        by_hand = _build(2, **changes, losses__number__weight=2.0)
        for variable, value in zip(_state(by_hand), _state(first), strict=True):
            variable.assign(value)
        _steps(by_hand, 1, 1)
    expected = _variables(by_hand)
    for name, value in _variables(scheduled).items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-12)
