"""Variables that stay as they are while others are trained."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from tests.trainer.run.short_runs import saved, train
from trainer.common.errors import ConfigError
from trainer.models.names import variables_by_name
from trainer.run import experiment

SGD = {name: value for name, value in problems.SIMPLE.items() if "optimizer" in name}
FROZEN = SGD | {"model": {"name": "tests.trainer.run.test_frozen:normalized"}, "freeze": ["backbone/*"]}


def normalized() -> keras.Model:
    """A backbone with batch statistics, alone in having `tanh`, and a head for each target."""
    inputs = keras.Input((6,), name="features")
    hidden = keras.layers.Dense(5, activation="tanh", name="dense")(inputs)
    backbone = keras.Model(inputs, keras.layers.BatchNormalization(name="scale", momentum=0.5)(hidden), name="backbone")
    outer = keras.Input((6,), name="inputs")
    code = backbone(outer)
    sizes = {"label": 4, "number": 1, "vector": 3}
    return keras.Model(outer, {name: keras.layers.Dense(size, name=name)(code) for name, size in sizes.items()})


@pytest.fixture(scope="module")
def by_hand():
    """Variables before and after four steps of SGD by Keras alone, in a model whose backbone does not train."""
    built = experiment.build(problems.config(**FROZEN), problems.strategy(1))
    model = keras.models.clone_model(built.model)
    model.set_weights(built.model.get_weights())
    model.get_layer("backbone").trainable = False
    before = {name: variable.numpy() for name, variable in variables_by_name(model).items()}
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for batch, _ in zip(built.batches(0), range(4), strict=False):
        with tf.GradientTape() as tape:
            outputs, targets = model(batch["inputs"], training=True), batch["targets"]
            distance = outputs["vector"] - targets["vector"]
            total = crossentropy(targets["label"], outputs["label"])
            total += 0.5 * tf.reduce_mean((outputs["number"][:, 0] - targets["number"]) ** 2)
            total += 2 * tf.reduce_mean(distance**2) + tf.reduce_mean(tf.abs(distance))
        trained = model.trainable_variables
        for variable, gradient in zip(trained, tape.gradient(total, [each.value for each in trained]), strict=True):
            variable.assign_sub(0.05 * gradient)
    return before, {name: variable.numpy() for name, variable in variables_by_name(model).items()}


@pytest.mark.parametrize(
    ("replicas", "changes"),
    [
        (2, {"reduction": "fused"}),
        *(pytest.param(*each, marks=pytest.mark.ci_only) for each in ((1, {}), (3, {"steps_per_loop": 3}))),
    ],
)
def test_frozen_layers_stand_and_others_train(tmp_path, by_hand, replicas, changes):
    """Weights and batch statistics stay; heads are trained as Keras would; optimizers keep nothing for what stands."""
    said = train(tmp_path / "run", replicas, **FROZEN | changes)
    assert "frozen 45, not trained 10\n" in said
    before, after = by_hand
    found = saved(tmp_path / "run", 4)
    assert found.keys() == after.keys()
    for name, value in after.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-9, err_msg=name)
        assert np.array_equal(value, before[name]) == np.array_equal(found[name], before[name])
        assert np.array_equal(found[name], before[name]) == name.startswith("backbone/"), name
    reader = tf.train.load_checkpoint(str(tmp_path / "run" / "checkpoints" / "step_00000004" / "variables"))
    slots = [key for key in reader.get_variable_to_shape_map() if key.startswith("optimizers/")]
    assert slots
    assert not any("backbone" in key for key in slots)


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_layers_have_no_backward_pass(frozen):
    built = experiment.build(problems.config(**FROZEN | ({} if frozen else {"freeze": []})), problems.strategy(1))
    steps = tf.constant(0, tf.int64), tf.constant(1, tf.int64), tf.constant(False)
    state, totals = built.step.initial_state(), built.step.initial_totals()
    traced = built.step.build().get_concrete_function(iter(built.batches(0)), *steps, state, totals)
    functions = traced.graph.as_graph_def().library.function
    assert any(node.op == "TanhGrad" for function in functions for node in function.node_def) is not frozen


def test_a_loss_that_reaches_nothing_but_frozen_variables_is_refused():
    changes = FROZEN | {"freeze": ["backbone/*", "label/*"]}
    with pytest.raises(ConfigError, match="losses.label: reaches no trainable variable through head 'label'"):
        experiment.build(problems.config(**changes), problems.strategy(1))


def test_layers_that_are_computed_again_can_be_frozen():
    """With the same result; weights and batch statistics of the frozen ones stay, those above train."""
    trunk = [{"layer": "Dense", "units": 7}, {"layer": "BatchNormalization"}, {"layer": "Dense", "units": 5}]
    changes = {"model__trunk": trunk, "freeze": ["trunk_0*", "trunk_1*"]}
    kept, again = (problems.reference(2, **changes, model__recompute=recompute) for recompute in (False, True))
    problems.assert_same(again, kept, tolerance=0)
    assert not any(name.startswith(("trunk_0", "trunk_1")) for name in kept.variables)
