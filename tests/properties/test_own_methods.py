"""Methods of the user's own that compute what built-in ones do give the same bits, however a run is computed."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from tests.properties import built_once, interrupted
from trainer import MultiLossModel
from trainer.combine import problem as problem_lib
from trainer.combine.methods import elements, mgda
from trainer.common.errors import ConfigError, NonFiniteError, UntrustedError
from trainer.common.trust import NOBODY
from trainer.config import loading, plan
from trainer.config.settings import Config
from trainer.cost import passes
from trainer.run import build_step, experiment, loop, optimization
from trainer.run.experiment import Experiment
from trainer.run.network import Network

OWN = "tests.properties.test_own_methods"
LOSSES_ONLY = {"sum", "number", "last", "last_but_one", "epochs"}


def weighted(loss_weights):
    return loss_weights


def drawn(seed, active):
    """Σ wₖ gₖ, w the softmax of normal numbers."""
    normal = tf.random.stateless_normal(active.shape, seed, dtype=tf.float64, alg="philox")
    return problem_lib.masked_softmax(normal, active)


def by_epochs(losses, state, active, epoch, *, temperature=2.0):
    """Weights from how fast each loss fell over the last two epochs."""
    over = (epoch > state["epoch"]) & (state["number"] > 0)
    mean = tf.math.divide_no_nan(state["sum"], state["number"])
    last, before = tf.where(over, mean, state["last"]), tf.where(over, state["last"], state["last_but_one"])
    epochs = state["epochs"] + tf.cast(over, tf.float64)
    ratios = tf.where(epochs >= 2, tf.math.divide_no_nan(last, before), 1.0)
    weights = problem_lib.count(active) * problem_lib.masked_softmax(ratios / temperature, active)
    now = {"last": last, "last_but_one": before, "epochs": epochs, "epoch": tf.fill(active.shape, epoch)}
    now["sum"] = tf.where(over, tf.zeros_like(losses), state["sum"]) + losses
    now["number"] = tf.where(over, tf.zeros_like(losses), state["number"]) + 1
    return weights, now


by_epochs.initial = lambda count: {**{name: np.zeros(count) for name in LOSSES_ONLY}, "epoch": np.zeros(count, int)}


def shortest(gramian):
    """The shortest weighted average of the gradients."""
    unit, norms = problem_lib.unit_gramian(gramian)
    inverse = tf.math.divide_no_nan(tf.ones_like(norms), norms)
    found = mgda.shortest_combination(unit, inverse) * inverse
    return tf.math.divide_no_nan(found, tf.reduce_sum(found))


def trimmed(gradients, active, *, trim=1):
    part = problem_lib.Problem(active, None, None, None, None, None, None)
    return elements.trimmed_mean(gradients, part, trim=trim)


def not_a_number(losses, step):
    return losses * tf.cast(tf.where(step == 2, np.nan, 1.0), losses.dtype)


def not_a_number_in_a_block(gradients, step):
    return gradients[0] * tf.cast(tf.where(step == 2, np.nan, 1.0), gradients.dtype)


def of_two(losses):
    return losses[:2]


FUSED = {"reduction": "fused", "probe_every": 3}
# A built-in method, the same by a function of this file, its options, and what both are computed with.
PAIRS = {
    "weighted": ("weighted", {}, (FUSED, {}, {"combine__apply": "per_loss"})),
    "random": ("drawn", {}, ({}, FUSED)),
    "dwa": ("by_epochs", {"temperature": 1.5}, (FUSED, {}, {"combine__update_every": 2})),
    "mgda": (
        "shortest",
        {},
        (
            {"combine__smoothing": 0.5, "combine__apply": "per_loss"},
            {"reduction": "features"},
            {"combine__use_weights": True, "combine__log_losses": True},
        ),
    ),
    "trimmed_mean": ("trimmed", {"trim": 1}, ({},)),
}
PROBLEM = problems.SIMPLE | {"precision": "float32", "dataset__options": {"missing": True, "examples": 22}}


def _changes(name: str, own: bool) -> dict[str, Any]:
    function, options, _ = PAIRS[name]
    if own:
        return {"combine__name": f"{OWN}:{function}", "combine__options": options}
    return {"combine__name": name, f"combine__{name}": options} if options else {"combine__name": name}


def _stepped(built: Experiment, config: Config, batches: list[Any]) -> list[np.ndarray]:
    """The variables after some steps of a configuration on the model of an experiment, what is reported, the state."""
    network = Network(built.model, built.losses, (), {}, built.data)
    optimizers = (config.losses, config.optimizer, config.shared_optimizer)
    made = optimization.build(config.combine, *optimizers, None, built.reach, built.timeline, built.strategy)
    of_problem = (network, built.reach, built.step.objectives.masked, made, built.timeline, built.strategy)
    step = build_step.build(config, plan.of(config), *of_problem, watch=None)
    numbers, nothing = loop.arguments(0, len(batches), True), (step.initial_state(), step.initial_totals())
    state, totals = step.build()(iter(batches), *numbers, *nothing)
    found = {**step.reach.by_name, **step.remembered(state), **step.report(state, totals, len(batches))}
    return {name: np.asarray(value, float) for name, value in found.items()}


@pytest.mark.parametrize("most", [1, pytest.param(3, marks=pytest.mark.ci_only)], ids=["one way", "every way"])
def test_the_same_steps_as_built_in_methods(most):
    """Three steps, of `dwa` six over three epochs, with losses that lack labels, as they stand: without a trace."""
    built = experiment.build(problems.config(**PROBLEM), tf.distribute.get_strategy())
    batches = [next(iter(built.batches(step))) for step in range(6)]
    start = [variable.numpy() for variable in built.reach.variables]
    for name, (_, _, ways) in PAIRS.items():
        for way in ways[:most]:
            found = []
            for own in (False, True):
                for variable, value in zip(built.reach.variables, start, strict=True):
                    variable.assign(value)
                config = problems.config(**PROBLEM, **_changes(name, own), **way)
                found.append(_stepped(built, config, batches if name == "dwa" else batches[:3]))
            assert found[0].keys() == found[1].keys(), (name, way)
            assert any("coefficient/" in key for key in found[0]) == (name in ("random", "dwa", "mgda")), (name, way)
            for key, value in found[0].items():
                np.testing.assert_array_equal(found[1][key], value, err_msg=f"{name}, {way}, {key}")


@pytest.mark.parametrize(
    ("name", "way"),
    [
        pytest.param("dwa", {"combine__smoothing": 0.5}, marks=pytest.mark.ci_only),
        pytest.param("dwa", FUSED, marks=pytest.mark.ci_only),
        pytest.param("mgda", {"reduction": "features"}, marks=pytest.mark.ci_only),
    ],
)
def test_an_interrupted_run_is_that_of_a_built_in_method(tmp_path, name, way):
    """On two replicas, from a checkpoint in the middle of a report."""
    changes, own, path = PROBLEM | way, _changes(name, own=True), tmp_path / "own"
    interrupted.train(tmp_path / "built_in", 2, **changes, **_changes(name, own=False))
    with built_once.building_once():
        interrupted.train(path, 2, **changes, **own)
        interrupted.forget_after(path, 5)
        interrupted.train(path, 2, **changes, **own)
    assert interrupted.results(path, 12) == interrupted.results(tmp_path / "built_in", 12)
    assert f"method:     {own['combine__name']}" in (path / "log.txt").read_text()
    with pytest.raises(ConfigError, match=f"combine.name is '{own['combine__name']}' there and '{OWN}:drawn' here"):
        interrupted.train(path, 2, **changes, combine__name=f"{OWN}:drawn")


@pytest.mark.ci_only
def test_fit_is_that_with_a_built_in_method():
    """`MultiLossModel` with loss weights, which scale the losses that a function looks at, or are looked at."""
    inputs = np.random.RandomState(0).normal(size=(20, 4))
    targets = {"a": inputs[:, :1], "b": inputs[:, 1:2] ** 2}
    for name, combine in (("dwa", {"name": by_epochs, "temperature": 2.0}), ("weighted", weighted)):
        found = []
        for each in (name, combine):
            keras.utils.set_random_seed(0)
            entry = keras.Input((4,))
            hidden = keras.layers.Dense(5)(entry)
            model = MultiLossModel(entry, {head: keras.layers.Dense(1, name=head)(hidden) for head in targets})
            losses = dict.fromkeys(targets, "mse")
            model.compile("adam", losses, loss_weights={"b": 3.0}, combine=each, run_eagerly=True)
            history = model.fit(inputs, targets, batch_size=8, epochs=3, verbose=0).history
            found.append([*model.get_weights(), *history.values()])
        for value, expected in zip(*found, strict=True):
            np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("name", PAIRS)
def test_costs_as_much_as_a_built_in_method(name):
    own, built_in = (problems.config(**_changes(name, own)) for own in (True, False))
    assert passes.of(own, missing=True) == passes.of(built_in, missing=True)


@pytest.mark.parametrize("function", ["not_a_number", "not_a_number_in_a_block"])
def test_a_number_that_is_not_finite_ends_the_run_with_its_name(function, tmp_path, eagerly):
    with pytest.raises(NonFiniteError) as caught:
        interrupted.train(tmp_path / "run", **problems.SIMPLE, combine__name=f"{OWN}:{function}")
    assert f"what combine={OWN}:{function} makes of it, became non-finite; this step changed no var" in str(
        caught.value
    )
    assert (caught.value.step, caught.value.losses) == (3, list(problems.LOSSES))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"combine__name": f"{OWN}:of_two"}, "must return a coefficient for each of the 4 losses, of shape (4,), not"),
        ({"combine__name": f"{OWN}:shortest", "reduction": "fused"}, "has one backward pass for all losses, but"),
        ({"combine__name": f"{OWN}:weighted", "combine__use_weights": True}, "uses the losses' weights already"),
        ({"combine__name": f"{OWN}:trimmed", "combine__options": {"trm": 1}}, "unknown option; did you mean 'trim'?"),
        ({"combine__name": "nowhere:mine"}, "cannot import 'nowhere'"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(changes, words, tmp_path, eagerly):
    with pytest.raises(ConfigError) as caught:
        interrupted.train(tmp_path / "run", **problems.SIMPLE, **changes)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert not list(tmp_path.iterdir())


def test_nothing_of_a_run_of_others_is_imported(tmp_path):
    config = problems.config(combine__name="nowhere:mine", combine__options={"power": 2})
    loading.save(config, tmp_path / "config.json")
    assert loading.load_saved(tmp_path / "config.json") == config
    with pytest.raises(UntrustedError, match=r"nowhere:mine \(combine.name\)"):
        loading.load_trusted(tmp_path / "config.json", [], NOBODY)
