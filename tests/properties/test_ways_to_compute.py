"""Ways to compute a step that must not change what it computes: fused, in parts, recomputed, compiled, packed."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import eager, problems
from tests.properties import interrupted
from trainer.common.errors import ConfigError
from trainer.config import loading
from trainer.run import experiment

STEPS = 6
EXACT = 1e-9


# What each of them is equal to is the same run without the changes.
WAYS = {
    "fused": {"reduction": "fused", "probe_every": 1000},
    "fused, probed": {"reduction": "fused", "probe_every": 2},
    "recomputed": {"model__recompute": True},
    "packs": {"bytes_per_pack": 64},
    "compiled": {"compile": "passes"},
    "fused, recomputed": {"reduction": "fused", "probe_every": 1000, "model__recompute": True},
}
MISSING = {"dataset__options": {"missing": True}}
TURNS = {"losses__number__every": 2, "losses__label__weight": 0.25}
REGULARIZED = {"layer": "Dense", "units": 5, "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.0625}}}


@pytest.mark.parametrize(
    ("way", "combine", "replicas", "changes"),
    [
        pytest.param("fused", "weighted", 1, {}, marks=pytest.mark.ci_only),
        pytest.param("fused", "weighted", 2, MISSING | {"clip_norm": 0.1}, marks=pytest.mark.ci_only),
        pytest.param("fused", "sum", 3, TURNS | {"model__trunk": [REGULARIZED]}, marks=pytest.mark.ci_only),
        pytest.param("fused", "sum", 1, MISSING | {"combine__use_weights": True}, marks=pytest.mark.ci_only),
        ("fused", "mean", 2, MISSING | TURNS),
        pytest.param("fused, probed", "mean", 2, {"combine__use_weights": True}, marks=pytest.mark.ci_only),
        pytest.param("recomputed", "pcgrad", 2, {"model__trunk": [REGULARIZED] * 3}, marks=pytest.mark.ci_only),
        pytest.param("packs", "pcgrad", 2, MISSING, marks=pytest.mark.ci_only),
        pytest.param("compiled", "pcgrad", 2, MISSING, marks=pytest.mark.ci_only),
        pytest.param("fused, recomputed", "mean", 1, {"model__trunk": [REGULARIZED] * 3}, marks=pytest.mark.ci_only),
    ],
)
def test_another_way_to_compute_the_same(way, combine, replicas, changes):
    """The same as the plain way on one replica."""
    changes = problems.SIMPLE | {"combine__name": combine} | changes
    way = problems.run(replicas, STEPS, **changes, **WAYS[way])
    problems.assert_same(way, problems.reference(STEPS, **changes), reports=False)


# With weights of classes a fused pass needs their sum over the whole batch first.
ALL_CLASSES_ALIKE = {"losses__label__class_weights": None}


@pytest.mark.parametrize(
    ("replicas", "changes"),
    [
        (1, {"combine__name": "pcgrad"} | MISSING),
        pytest.param(2, {"combine__apply": "per_loss"} | MISSING, marks=pytest.mark.ci_only),
        pytest.param(2, {"reduction": "fused", "probe_every": 4, **ALL_CLASSES_ALIKE}, marks=pytest.mark.ci_only),
    ],
    ids=["pcgrad", "per loss", "fused"],
)
def test_micro_batches(replicas, changes):
    """The sums of the parts are those of the whole, here on one replica."""
    changes = problems.SIMPLE | {"batch_size": 12, "losses__label__class_weights": [1.0, 0.5, 3.0, 0.0]} | changes
    problems.assert_same(
        problems.run(replicas, STEPS, micro_batches=4, **changes), problems.reference(STEPS, **changes)
    )


def test_recomputation_repeats_what_is_random_and_moves_statistics_once():
    """Dropout masks, batch statistics and their moving averages are those of the run that keeps everything."""
    trunk = [
        {"layer": "Dense", "units": 7},
        {"layer": "BatchNormalization", "momentum": 0.5},
        {"layer": "Dropout", "rate": 0.5},
        {"layer": "Dense", "units": 5, "activation": "tanh"},
        {"layer": "GaussianNoise", "stddev": 0.1},
    ]
    built = [
        experiment.build(
            problems.config(**problems.SIMPLE | {"model__trunk": trunk, "model__recompute": on}), problems.strategy(2)
        )
        for on in (False, True)
    ]
    with eager.functions():
        kept = problems.train(built[0], STEPS)
    recomputed = problems.train(built[1], STEPS)
    problems.assert_same(recomputed, kept)
    states = [[variable.numpy() for variable in each.model.non_trainable_variables] for each in built]
    for state, expected in zip(*states, strict=True):
        np.testing.assert_allclose(state, expected, rtol=0, atol=EXACT)


# ---------------------------------------------------------------------------------------------------------------------
# Weights that last, and weights from the features.
# ---------------------------------------------------------------------------------------------------------------------


SGD = {"name": "sgd", "learning_rate": 0.1}
PLAIN = {f"losses__{name}__optimizer": SGD for name in problems.LOSSES} | {"shared_optimizer": SGD}


def _dense(gradient, value) -> np.ndarray:
    return np.zeros(value.shape).ravel() if gradient is None else gradient.numpy().ravel()


def _by_hand(built: experiment.Experiment, batch, at: str):
    """Every loss's gradients of all variables and at the features (the trunk's output), from one tape in float64."""
    variables = built.model.trainable_variables
    trunk = keras.Model(built.model.input, built.model.get_layer("trunk_0_dense").output)
    with tf.GradientTape(persistent=True) as tape:
        features = trunk(batch["inputs"])
        outputs = {
            "label": built.model.get_layer("head_label_0_dense")(features),
            "number": built.model.get_layer("head_number_0_dense")(features),
            "vector": built.model.get_layer("head_vector_1_dense")(
                built.model.get_layer("head_vector_0_dense")(features)
            ),
        }
        means = [
            tf.reduce_mean(loss.function(batch["targets"][loss.target], outputs[loss.head])) for loss in built.losses
        ]
    values = [variable.value for variable in variables]
    gradients = [tape.gradient(mean, values) for mean in means]
    shared = [v for v in range(len(values)) if sum(own[v] is not None for own in gradients) > 1]
    if at == "features":
        rows = [tf.reshape(tape.gradient(mean, features), [-1]).numpy() for mean in means]
    else:
        rows = [np.concatenate([_dense(own[v], values[v]) for v in shared]) for own in gradients]
    return variables, gradients, shared, np.array(rows)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("reduction", ["per_loss", "features"])
def test_weights_by_hand(reduction):
    """`normalized` weighs each loss by 1 / (K ‖row‖), of the first step in both steps; one device, plain SGD."""
    changes = {"combine__name": "normalized", "combine__update_every": 2, "reduction": reduction} | PLAIN
    built = experiment.build(problems.config(**changes), problems.strategy(1))
    batches, loop = iter(built.batches(0)), built.step.build()
    state, training, weights = built.step.initial_state(), iter(built.batches(0)), None
    for step in range(2):
        variables, by_loss, shared, rows = _by_hand(built, next(batches), reduction)
        if weights is None:
            weights = 1 / (len(rows) * np.linalg.norm(rows, axis=1))
        expected = []
        for v, variable in enumerate(variables):
            factors = weights if v in shared else np.ones(len(rows))
            parts = [f * own[v].numpy() for f, own in zip(factors, by_loss, strict=True) if own[v] is not None]
            expected.append(variable.numpy() - 0.1 * sum(parts))
        numbers = (tf.constant(number, tf.int64) for number in (step, 1))
        state, totals = loop(training, *numbers, tf.constant(True), state, built.step.initial_totals())
        for variable, value in zip(variables, expected, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, rtol=0, atol=1e-12, err_msg=f"{step} {variable.path}")
        np.testing.assert_allclose(state.coefficients.numpy(), weights, rtol=1e-9)


@pytest.mark.ci_only
@pytest.mark.parametrize("changes", [{"reduction": "features"}, {"combine__update_every": 3}])
def test_weights_do_not_depend_on_the_number_of_replicas(changes):
    changes = {"combine__name": "pcgrad"} | changes | MISSING | problems.SIMPLE
    problems.assert_same(problems.run(3, STEPS, **changes), problems.reference(STEPS, **changes))


@pytest.mark.ci_only
def test_fused_reports_norms_and_cosines_of_its_probes():
    """The last step of each call, of which a report is wanted."""
    fused = problems.run(2, 4, calls=2, reduction="auto")
    expected = problems.reference(4)
    np.testing.assert_allclose(fused.grad_norms, expected.grad_norms, rtol=1e-9)
    np.testing.assert_allclose(fused.cosines, expected.cosines, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("combine", ["weighted", pytest.param("uncertainty", marks=pytest.mark.ci_only)])
def test_reports_of_auto_hold_what_they_hold_per_loss(tmp_path, combine):
    changes = {"report_every": 11, "steps": 13, "eval_every": 13, "combine__name": combine, **problems.SIMPLE}
    found = {}
    for reduction in ("auto", "per_loss"):
        interrupted.train(tmp_path / reduction, reduction=reduction, **changes)
        lines = (tmp_path / reduction / "metrics.jsonl").read_text().splitlines()
        found[reduction] = [json.loads(line) for line in lines]
    assert [report["step"] for report in found["auto"]] == [1, 10, 11, 13, 13]
    for report, expected in zip(found["auto"], found["per_loss"], strict=True):
        assert ("grad_norm/label" in report) == (report["split"] == "train")
        assert report.pop("split") == expected.pop("split")
        assert report == pytest.approx(expected, rel=0, abs=1e-9)


def test_probes_are_the_same_steps_whatever_a_call_takes():
    """Steps 3 and 6 of eight in one call, the last of which is none, beside calls of a step each; norms and cosines."""
    changes = {"reduction": "fused", "probe_every": 3}
    in_one_call = problems.run(2, 8, calls=1, **changes)
    one_by_one, until_probe = problems.reference(8, **changes), problems.reference(6, **changes)
    np.testing.assert_allclose(in_one_call.losses[0], one_by_one.losses.mean(axis=0), rtol=1e-9)
    for name, value in one_by_one.variables.items():
        np.testing.assert_allclose(in_one_call.variables[name], value, rtol=0, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(in_one_call.grad_norms, until_probe.grad_norms, rtol=1e-9)
    np.testing.assert_allclose(in_one_call.cosines, until_probe.cosines, rtol=0, atol=1e-9)
    assert np.all(in_one_call.grad_norms > 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reduction": "fused", "combine__name": "pcgrad"}, "reduction='fused'.*pcgrad.*looks at"),
        ({"reduction": "fused", "combine__name": "independent"}, "reduction='fused'.*per loss"),
        ({"reduction": "fused", "losses__label__variables": ["trunk*"]}, "reduction='fused'.*losses.label.variables"),
        (
            {"reduction": "fused", "batch_size": 12, "micro_batches": 2} | MISSING,
            "reduction='fused'.*leave micro_batches at 1",
        ),
        ({"reduction": "fused", "compile": "passes"} | MISSING, "reduction='fused'.*leave compile 'off'"),
        ({"probe_every": 5}, "probe_every=5.*fused"),
        ({"micro_batches": 4}, "micro_batches=4: must divide batch_size, which is 11"),
        ({"micro_batches": 11}, "micro_batches=11: leaves 1 examples in a part, fewer than the 2 replicas"),
        ({"reduce_dtype": "float8"}, "reduce_dtype='float8'.*bfloat16"),
        ({"reduction": "features"}, "reduction='features'.*weighted"),
        (
            {"reduction": "features", "combine__name": "pcgrad", "model__trunk": []},
            "reduction='features': is for losses that share|reduction='features': needs a trunk",
        ),
        ({"reduction": "features", "combine__name": "pcgrad", "combine__apply": "per_loss"}, "reduction.*per loss"),
        ({"combine__update_every": 2}, "combine.update_every=2.*weighted.*fused"),
        ({"model__recompute": True, "model__name": "tests.problems:two_towers"}, "model.recompute"),
    ],
)
def test_what_cannot_hold_is_refused_with_a_reason(changes, words):
    with pytest.raises(ConfigError, match=words):
        experiment.build(loading.resolve(problems.tree(**changes)), problems.strategy(2))
