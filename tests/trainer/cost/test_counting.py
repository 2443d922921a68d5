"""Operations of a model's forward pass, and which losses' backward passes they take part in."""

import keras
import pytest
import tensorflow as tf

from tests import problems
from trainer.common import schema
from trainer.components import losses
from trainer.config import loading
from trainer.config import settings as settings_lib
from trainer.config.loss_settings import LossConfig
from trainer.cost import counting
from trainer.cost.workload import Workload
from trainer.gradients.reach import Reach
from trainer.run import experiment

DENSE = {"layer": "Dense", "use_bias": False}
BATCH = 100  # so large that what is done once for a batch, or for each example of each loss, hardly counts


def _workload(**changes) -> Workload:
    return _of(loading.resolve(problems.tree(**changes)))


def _of(config: settings_lib.Config, batch: int = BATCH) -> Workload:
    built = experiment.build(config, problems.strategy(2))
    spec = experiment.batch_spec(built.train, batch)
    return counting.workload(built.model, built.losses, built.step.reach, spec, built.strategy)


def _heads(label: list, number: list, vector: list) -> dict:
    return {"model__heads": {"label": label, "number": number, "vector": vector}}


def test_trunk_and_heads():
    """Products of 6 inputs, 1000 and 500 units; the heads' 4, 1, 300 and 3; two losses share the last head."""
    workload = _workload(
        model__trunk=[{**DENSE, "units": 1000}, {**DENSE, "units": 500}],
        **_heads([{**DENSE, "units": 4}], [{**DENSE, "units": 1}], [{**DENSE, "units": 300}, {**DENSE, "units": 3}]),
    )
    products = {"trunk": 6 * 1000 + 1000 * 500, "label": 500 * 4, "number": 500, "vector": 500 * 300 + 300 * 3}
    products = {name: 2 * BATCH * count for name, count in products.items()}
    everything = range(4)
    assert workload.forward == pytest.approx(sum(products.values()), rel=1e-3)
    assert sum(operations.count for operations in workload.trunk) == products["trunk"]
    first = 2 * BATCH * 6 * 1000  # nobody asks for the gradient of the inputs
    assert sum(operations.backward(everything) for operations in workload.trunk) == 2 * products["trunk"] - first
    for k, head in enumerate(("label", "number", "vector", "vector")):
        backward = sum(operations.backward([k]) for operations in workload.heads)
        assert backward == pytest.approx(2 * products[head], rel=0.05)
    assert workload.features == 500 * BATCH
    assert {(variable.size, variable.losses) for variable in workload.variables} == {
        (6 * 1000, (0, 1, 2, 3)),
        (1000 * 500, (0, 1, 2, 3)),
        (500 * 4, (0,)),
        (500, (1,)),
        (500 * 300, (2, 3)),
        (300 * 3, (2, 3)),
    }


def test_what_leads_to_shared_and_to_task_specific_variables():
    """The gradients between a head's layers lead to both."""
    layers = [{**DENSE, "units": 300}, {**DENSE, "units": 200}, {**DENSE, "units": 4}]
    workload = _workload(model__trunk=[{**DENSE, "units": 10}], model__heads__label=layers)
    twice = sum(operations.count * operations.twice for operations in workload.operations)
    assert twice == pytest.approx(2 * BATCH * (300 * 200 + 200 * 4), rel=0.05)


def stopped_model() -> keras.Model:
    """One head learns through a layer of 1000 units, the others use it without teaching it."""
    inputs = keras.Input((6,))
    shared = keras.layers.Dense(1000, use_bias=False)(inputs)
    stopped = keras.layers.Lambda(keras.ops.stop_gradient)(shared)
    sizes = {"label": (4, shared), "number": (1, stopped), "vector": (3, stopped)}
    return keras.Model(inputs, {name: keras.layers.Dense(size)(x) for name, (size, x) in sizes.items()})


def test_no_gradient_passes_a_stop():
    workload = _workload(model={"name": "tests.trainer.cost.test_counting:stopped_model"})
    (shared,) = [operations for operations in workload.trunk if operations.count == 2 * BATCH * 6 * 1000]
    assert shared.gradients == (frozenset({0}),)


def test_embeddings_are_reached():
    trunk = [{"layer": "Embedding", "input_dim": 5, "output_dim": 300}, {"layer": "Flatten"}, {**DENSE, "units": 200}]
    tree = {
        "dataset": {"name": "tests.trainer.step.test_discovery:words"},
        "batch_size": 6,
        "model": {"trunk": trunk, "heads": {name: [{"layer": "Dense", "units": 1}] for name in ("a", "b")}},
        "losses": {name: {"head": name, "target": name, "loss": "mse"} for name in ("a", "b")},
    }
    workload = _of(loading.resolve(tree))
    product = 2 * BATCH * 4 * 300 * 200  # both its inputs have gradients: the kernel and the embeddings
    assert sum(operations.backward([0]) for operations in workload.trunk) == pytest.approx(2 * product, rel=1e-3)


@pytest.mark.parametrize(
    ("equation", "shapes", "operations"),
    [
        ("bij,bjk->bik", [(2, 3, 5), (2, 5, 7)], 2 * 2 * 3 * 5 * 7),
        ("...d,de->...e", [(2, 3, 5), (5, 7)], 2 * 2 * 3 * 5 * 7),
        ("abc,cd->abd", [(2, 3, 5), (5, 7)], 2 * 2 * 3 * 5 * 7),
        ("ij->j", [(3, 5)], 3 * 5),
    ],
)
def test_einsum(equation, shapes, operations):
    with tf.Graph().as_default() as graph:
        tf.raw_ops.Einsum(inputs=[tf.zeros(shape) for shape in shapes], equation=equation)
    (op,) = [op for op in graph.get_operations() if op.type == "Einsum"]
    assert counting.count(op) == operations


def test_an_unknown_shape_counts_nothing():
    with tf.Graph().as_default():
        product = tf.matmul(tf.compat.v1.placeholder(tf.float32, [None, 3]), tf.zeros([3, 4]))
    assert counting.count(product.op) == 0


def test_loops_are_named(caplog):
    trunk = [{"layer": "Reshape", "target_shape": (3, 2)}, {"layer": "SimpleRNN", "units": 4}]
    with caplog.at_level("WARNING", logger="absl"):
        _workload(model__trunk=trunk)
    assert "Not counted: what is inside of loops" in caplog.text


@pytest.mark.ci_only
def test_resnet_50():
    """3.8·10^9 multiply-adds for an image (He et al. 2015, table 1), and as many parameters as Keras counts."""
    trunk = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))
    model = keras.Model(trunk.input, {name: keras.layers.Dense(1)(trunk.output) for name in ("a", "b")})
    settings = {k: schema.record(LossConfig)({"head": k, "target": k, "loss": {"name": "mse"}}, k) for k in ("a", "b")}
    named = [losses.build(name, own) for name, own in settings.items()]
    variables = tuple(model.trainable_variables)
    reached = ((0, 1),) * (len(variables) - 4) + ((0,), (0,), (1,), (1,))
    reach = Reach(variables, reached, tuple(variable.path for variable in variables))
    targets = {k: tf.TensorSpec([2, 1]) for k in ("a", "b")}
    specs = {"inputs": tf.TensorSpec([2, 224, 224, 3]), "targets": targets}
    workload = counting.workload(model, named, reach, specs, tf.distribute.get_strategy())
    assert workload.forward / 2 == pytest.approx(2 * 3.8e9, rel=0.05)
    # Images have no gradient; every other convolution has both, and the remaining operations hardly count.
    first = 2 * 112 * 112 * 7 * 7 * 3 * 64
    assert sum(each.backward([0]) for each in workload.trunk) / 2 == pytest.approx(2 * 7.8e9 - first, rel=0.02)
    assert sum(variable.size for variable in workload.shared) == 25_583_592 - 2049 * 1000  # without the last layer
    assert workload.features == 2 * 2048
