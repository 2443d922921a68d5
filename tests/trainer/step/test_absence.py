"""Losses that take no part in a step, for want of a label or of a weight, whatever their gradients hold.

Steps are taken as they stand, without a trace, so that every method is tried on one model.
"""

import copy
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.examples import Examples
from tests import problems
from trainer.combine.registry import METHODS
from trainer.common.errors import ConfigError
from trainer.components import losses
from trainer.config import loading, plan
from trainer.config.settings import Config
from trainer.run import build_step, experiment, optimization
from trainer.run.experiment import Experiment
from trainer.run.network import Network
from trainer.step.objectives import Objectives
from trainer.step.step import Step

FROM_STEP_2 = {"name": "piecewise_constant_decay", "boundaries": [1], "values": [0.0, 1.0]}


def labelled() -> dict[str, Examples]:
    """The small problem with a weight for every label."""
    splits = problems.load()
    return {
        name: Examples(split.inputs, split.targets, {target: np.ones(len(split.inputs)) for target in split.targets})
        for name, split in splits.items()
    }


def only_of_labels(target: tf.Tensor, prediction: tf.Tensor) -> tf.Tensor:
    """A loss with gradients that are not finite where a target is 0."""
    return tf.reduce_mean(tf.math.log(tf.square(target)) * prediction, axis=-1)


def _build(config: Config) -> Experiment:
    return experiment.build(config, tf.distribute.get_strategy())


def _step(built: Experiment, config: Config) -> Step:
    """The step of a configuration on the model of an experiment."""
    network = Network(built.model, built.losses, (), {}, built.data)
    optimizers = (config.losses, config.optimizer, config.shared_optimizer)
    made = optimization.build(config.combine, *optimizers, None, built.reach, built.timeline, built.strategy)
    masked = built.step.objectives.masked
    parts = (network, built.reach, masked, made, built.timeline, built.strategy)
    return build_step.build(config, plan.of(config), *parts, watch=None)


def _train(step: Step, batches: Any, count: int) -> list[dict[str, np.ndarray]]:
    """The variables before the first of some steps and after each; every step is accepted."""
    iterator, state, totals = iter(batches), step.initial_state(), step.initial_totals()
    found = [_values(step)]
    for number in range(count):
        state, totals = step.one_step(iterator, tf.constant(number, tf.int64), tf.constant(True), state, totals)
        assert int(totals.failed_step) == -1
        found.append(_values(step))
        assert all(np.all(np.isfinite(value)) for value in found[-1].values())
    return found


def _values(step: Step) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in step.reach.by_name.items()}


def _assign(step: Step, values: dict[str, np.ndarray]) -> None:
    for name, variable in step.reach.by_name.items():
        variable.assign(values[name])


def _moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    """The parts of the model that have changed: `trunk`, or the name of a head."""
    changed = {name for name, value in before.items() if not np.array_equal(value, after[name])}
    return {name.removeprefix("head_").partition("_")[0] for name in changed}


WAYS = [
    *({"combine__name": name} for name in METHODS),
    {"combine__name": "normalized", "combine__normalized": {"per_variable": True}},
    {"combine__name": "pcgrad", "combine__apply": "per_loss"},
    {"combine__name": "moco", "combine__log_losses": True},
    {"combine__name": "mgda", "reduction": "features", "combine__log_losses": True},
]


@pytest.mark.parametrize("precision", ["float32", pytest.param("float64", marks=pytest.mark.ci_only)])
def test_without_a_label_nothing_moves(precision):
    """Two losses of one head lack labels, then all losses do; the gradients of one of them are NaN then."""
    changes = problems.SIMPLE | {
        "precision": precision,
        "dataset__name": "tests.trainer.step.test_absence:labelled",
        "losses__vector__loss": "tests.trainer.step.test_absence:only_of_labels",
    }
    built = _build(problems.config(**changes))
    batch = next(iter(built.batches(0)))
    for name, value in batch["targets"].items():
        batch["targets"][name] = tf.zeros_like(value) if name == "vector" else value
    start = _values(built.step)
    for way in WAYS:
        step = _step(built, problems.config(**changes, **way))
        everything = [{"label", "number", "vector"}] if way["combine__name"] in problems.REPRESENTATIVES else []
        for without in ({"vector"}, *everything):
            weights = {k: tf.zeros_like(w) if k in without else w for k, w in batch["weights"].items()}
            before, after = _train(step, [batch | {"weights": weights}], 1)
            expected = {"trunk", "label", "number"} if len(without) == 1 else set()
            assert _moved(before, after) == expected, (way, without)
            _assign(step, start)


IN_A_RANDOM_ORDER = ("random", "pcgrad", "gradvac")  # what is drawn depends on the number of losses


@pytest.mark.parametrize(
    "names",
    [
        ("independent", "uncertainty", "mgda", "modo", "trimmed_mean"),
        pytest.param([name for name in METHODS if name not in IN_A_RANDOM_ORDER], marks=pytest.mark.ci_only),
    ],
    ids=["some", "all"],
)
def test_a_loss_of_weight_0_is_as_if_it_were_not_there(names):
    """Also for methods that ignore weights."""
    tree = problems.tree(losses__number__weight=0.0, **{k: v for k, v in problems.SIMPLE.items() if "optim" not in k})
    built = _build(loading.resolve(tree))
    batches, start = list(built.batches(0).take(1)), _values(built.step)
    others = copy.deepcopy(tree)
    del others["losses"]["number"], others["model"]["heads"]["number"]
    alone = _build(loading.resolve(others))
    for name in names:
        found = []
        for experiment_, own in ((built, tree), (alone, others)):
            config = loading.resolve({**own, "combine": {"name": name}})
            step = _step(experiment_, config)
            _assign(step, start)
            found.append(_train(step, batches, 1)[-1])
        assert _moved(start, found[0]) == {"trunk", "label", "vector"}, name
        for variable, value in found[1].items():
            np.testing.assert_allclose(found[0][variable], value, rtol=0, atol=1e-12, err_msg=f"{name} {variable}")


def test_a_weight_of_0_leaves_mgda_the_other_loss():
    """To the last bit as a run without the loss, where the two heads are apart and losses are scaled by weights."""
    tree = problems.tree(combine={"name": "mgda", "use_weights": True}, losses__number__weight=0.0)
    for name in ("vector", "vector_l1"):
        del tree["losses"][name]
    del tree["model"]["heads"]["vector"]
    both = _build(loading.resolve(tree))
    batches, start = list(both.batches(0).take(2)), _values(both.step)
    del tree["losses"]["number"], tree["model"]["heads"]["number"]
    one = _build(loading.resolve(tree))
    _assign(one.step, start)
    with_it, without = _train(both.step, batches, 2)[-1], _train(one.step, batches, 2)[-1]
    assert _moved(start, with_it) == {"trunk", "label"}
    for name, value in without.items():
        np.testing.assert_array_equal(with_it[name], value, err_msg=name)


@pytest.mark.parametrize(
    "way",
    [
        {"combine__name": "mgda", "reduction": "features"},
        {"combine__name": "famo", "reduction": "fused", "probe_every": 5},
        *(
            pytest.param(way, marks=pytest.mark.ci_only)
            for way in (
                {"combine__name": "independent"},
                {"combine__name": "modo"},
                {"combine__name": "upgrad", "combine__update_every": 2},
            )
        ),
    ],
    ids=lambda way: way["combine__name"],
)
def test_a_schedule_that_begins_at_0(way):
    """The loss's head and optimizer stay what they are until its weight is above 0; its state does, too."""
    built = _build(problems.config(losses__number__weight=FROM_STEP_2, **way))
    values = _train(built.step, built.batches(0), 3)
    for before, after, number in zip(values, values[1:], (set(), set(), {"number"}), strict=False):
        assert _moved(before, after) == {"trunk", "label", "vector"} | number
    groups = {group.name: int(group.optimizer.iterations.numpy()) for group in built.optimizer_groups}
    assert groups["number"] == 1
    assert groups["label"] == 3


def test_where_every_weight_is_0():
    """A constant 0 for all is refused; schedules may begin like that, and nothing moves so long."""
    with pytest.raises(ConfigError, match="losses.<name>.weight=.*at least one loss must have a weight above 0"):
        problems.config(**{f"losses__{name}__weight": 0.0 for name in problems.LOSSES})
    changes = {f"losses__{name}__weight": FROM_STEP_2 for name in problems.LOSSES}
    built = _build(problems.config(combine__name="cagrad", **changes))
    values = _train(built.step, built.batches(0), 3)
    assert [_moved(*pair) for pair in zip(values, values[1:], strict=False)] == [
        set(),
        set(),
        {"trunk", "label", "number", "vector"},
    ]


@pytest.mark.parametrize(("weight", "compared"), [(2.0, 0), (0.0, 1)])
def test_weights_that_are_never_0_add_nothing(weight, compared):
    """No operation looks whether they are 0."""
    config = problems.config(losses__number__weight=weight)
    objectives = Objectives(
        model=None,
        losses=[losses.build(name, loss) for name, loss in config.losses.items()],
        loss_weights=[loss.weight for loss in config.losses.values()],
        timeline=None,
        seed=0,
        masked=(False,) * len(problems.LOSSES),
    )
    ones = tf.TensorSpec([len(problems.LOSSES)], tf.float64)
    function = tf.function(objectives.active_and_normalizers, autograph=False)
    graph = function.get_concrete_function(ones, ones, tf.TensorSpec([], tf.int64)).graph
    assert [operation.type for operation in graph.get_operations()].count("NotEqual") == compared
