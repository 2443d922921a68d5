"""Embedded categories: values, replicas, and the warning about tables whose gradients are kept whole."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import problems
from trainer.common import schema
from trainer.config import loading, settings
from trainer.config.settings import ModelConfig
from trainer.models import embeddings, trunk_and_heads
from trainer.models.embeddings import CategoricalEmbedding
from trainer.run import checks, experiment

STEPS = 12
ROWS = {"train": 47, "validation": 17}


@pytest.fixture
def folder(tmp_path):
    """CSV files of two numbers, a word, a code and two targets, one of them with labels missing."""
    random = np.random.RandomState(0)
    for split, rows in ROWS.items():
        lines = ["height,width,word,code,price,sold"]
        for _ in range(rows):
            height, width = random.uniform(1, 9, size=2)
            code = random.randint(5)
            price = f"{height * width + code:.3f}" if random.uniform() < 0.7 else ""
            sold = "yes" if height > width else "no"
            lines.append(f"{height:.3f},{width:.3f},{random.choice(['red', 'green', 'blue'])},{code},{price},{sold}")
        (tmp_path / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def _config(folder, **changes) -> settings.Config:
    tree = {
        "precision": "float64",
        "batch_size": 11,
        "steps": STEPS,
        "dataset": {
            "name": "csv",
            "path": str(folder),
            "splits": {"train": "train.csv", "validation": "validation.csv"},
            "inputs": {
                "numbers": {"feature": ["height", "width"], "prepare": ["standardise"]},
                "categories": {"feature": ["word", "code"], "prepare": ["categories"]},
            },
            "targets": {
                "price": {"prepare": ["standardise"]},
                "sold": {"prepare": [{"name": "equals", "values": ["yes"]}]},
            },
        },
        "model": {
            "trunk": [{"layer": "Dense", "units": 6, "activation": "tanh"}],
            "heads": {"price": [{"layer": "Dense", "units": 1}], "sold": [{"layer": "Dense", "units": 1}]},
            "embedding_units": 3,
        },
        "losses": {
            "price": {"head": "price", "target": "price", "loss": "mse"},
            "sold": {
                "head": "sold",
                "target": "sold",
                "loss": {"name": "binary_crossentropy", "from_logits": True},
                "metrics": [{"name": "AUC", "as": "auc", "from_logits": True}],
            },
        },
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = value
    return loading.resolve(tree)


@pytest.mark.parametrize(
    ("sizes", "shape"), [((4,), (5,)), ((4,), (5, 1)), ((3, 7, 2), (5, 3)), ((3, 4, 2, 6), (5, 2, 2))], ids=str
)
def test_every_column_looks_up_its_own_table(sizes, shape):
    units = 3
    layer = CategoricalEmbedding(sizes, units)
    layer.build((None, *shape[1:]))
    random = np.random.RandomState(0)
    tables = [random.normal(size=(size, units)).astype(np.float32) for size in sizes]
    layer.table.assign(np.concatenate(tables))
    columns = np.stack([random.randint(0, size, size=shape[0]) for size in sizes], axis=1)
    columns[0], columns[1] = 0, np.array(sizes) - 1
    expected = np.concatenate([table[column] for table, column in zip(tables, columns.T, strict=True)], axis=1)
    for dtype in (np.int32, np.int64):
        found = layer(columns.reshape(shape).astype(dtype))
        np.testing.assert_array_equal(found, expected)
        assert layer.compute_output_shape((None, *shape[1:])) == (None, found.shape[1])


def test_a_gradient_reaches_only_the_rows_of_a_batch():
    layer = CategoricalEmbedding((3, 4), 2)
    columns = np.array([[0, 3], [0, 1]])
    factors = np.arange(8.0, dtype=np.float32).reshape(2, 4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(columns) * factors)
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.table.value)).numpy()
    expected = np.zeros((7, 2))
    for row, of_row in zip(columns, factors, strict=True):
        expected[row[0]] += of_row[:2]
        expected[3 + row[1]] += of_row[2:]
    np.testing.assert_allclose(gradient, expected)


def test_the_tables_of_a_model_are_found():
    words, codes = keras.Input((2,), dtype="int64"), keras.Input((), dtype="int64")
    embedded = keras.layers.Flatten()(keras.layers.Embedding(5, 2, name="keras_own")(words))
    inner = keras.Sequential([keras.Input((1,), dtype="int64"), CategoricalEmbedding((4,), 2, name="inner")])
    joined = keras.layers.Concatenate()([embedded, inner(keras.layers.Reshape((1,))(codes))])
    model = keras.Model([words, codes], keras.layers.Dense(1)(joined))
    assert sorted(tuple(table.shape) for table in embeddings.tables(model)) == [(4, 2), (5, 2)]


def test_numbers_come_beside_embedded_categories(folder):
    """The model's output against NumPy, from the file's own values."""
    built = experiment.build(_config(folder), problems.strategy(1))
    variables = {variable.path: variable.numpy() for variable in built.model.trainable_variables}
    rows = [line.split(",") for line in (folder / "train.csv").read_text().split()[1:]]
    numbers = np.array([row[:2] for row in rows], float)
    numbers = (numbers - numbers.mean(0)) / numbers.std(0)
    table, vectors, start = variables["embedding_categories/table"], [], 0
    for column in zip(*[row[2:4] for row in rows], strict=True):
        names = sorted(set(column), key=lambda name, column=column: (-column.count(name), name))
        vectors.append(table[[start + names.index(name) + 1 for name in column]])
        start += len(names) + 1
    assert table.shape == (start, 3)
    hidden = np.concatenate([numbers, *vectors], axis=1) @ variables["trunk_0_dense/kernel"]
    hidden = np.tanh(hidden + variables["trunk_0_dense/bias"])
    outputs = built.model(tf.nest.map_structure(tf.constant, built.train.first(len(rows))["inputs"]))
    for head in ("price", "sold"):
        expected = hidden @ variables[f"head_{head}_0_dense/kernel"] + variables[f"head_{head}_0_dense/bias"]
        np.testing.assert_allclose(outputs[head], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"combine__name": "pcgrad", "clip_norm": 0.1}, marks=pytest.mark.ci_only),
        pytest.param({"reduction": "fused", "combine__name": "mean"}, marks=pytest.mark.ci_only),
        pytest.param({"reduction": "features", "combine__name": "mgda"}, marks=pytest.mark.ci_only),
    ],
    ids=str,
)
def test_replicas_change_nothing(folder, changes):
    """In float64, numbers and categories, labels missing, on one replica and on three of uneven shares."""
    one, three = (
        problems.train(experiment.build(_config(folder, **changes), problems.strategy(replicas)), STEPS, evaluate=True)
        for replicas in (1, 3)
    )
    assert not np.allclose(one.losses[0], one.losses[-1])
    problems.assert_same(three, one)


UNITS = 2**16  # ten rows of these, in 8 bytes each: 5 MiB


@pytest.mark.parametrize(
    ("changes", "mebibytes", "count"),
    [
        ({"reduction": "per_loss"}, 10, 2),
        pytest.param({"reduction": "per_loss", "precision": "float32"}, 5, 2, marks=pytest.mark.ci_only),
        ({"losses__price__variables": ["head_price*"]}, 5, 1),
        ({}, None, 2),
        ({"reduction": "features", "combine__name": "mgda"}, None, 2),
    ],
    ids=str,
)
def test_dense_gradients_of_a_large_table_are_announced(folder, monkeypatch, changes, mebibytes, count):
    def notes(most: int) -> tuple[str, ...]:
        monkeypatch.setattr(checks, "_LARGE_TABLE_BYTES", most)
        config = _config(folder, model__embedding_units=UNITS, **changes)
        return experiment.build(config, problems.strategy(1)).notes

    if mebibytes is None:
        assert not notes(0)
        return
    (line,) = notes(mebibytes * 2**20 - 1)
    assert f"{mebibytes} MiB" in line
    assert f"{count} losses" in line
    assert "embedding_categories/table" in line
    assert not notes(mebibytes * 2**20)


def test_a_single_number_is_a_vector_of_one():
    heads = {"y": [{"layer": "Dense", "units": 2}]}
    config = schema.record(ModelConfig)({"heads": heads}, "model")
    model = trunk_and_heads.build(config, tf.TensorSpec((None,), tf.float32))
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(model(np.array([2.0, 3.0]))["y"], np.array([[2.0], [3.0]]) @ kernel + bias, rtol=1e-6)
