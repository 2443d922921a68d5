"""The data as `trainer.describe` shows them: its numbers against NumPy, and its picture."""

import io
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from input_pipelines import data
from input_pipelines.configuration import DatasetConfig
from input_pipelines.examples import Examples
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.feed.mixture import Mixture
from input_pipelines.names import Names
from tests.trainer.describe.records import records_tree
from trainer.common import schema
from trainer.describe import data_numbers, data_tables, picture, picture_tensors, rate, tables

COUNT = 50


def _examples() -> Examples:
    """Classes with a third of them missing, pictures with masked pixels, a number with weights, and zeros and ones."""
    random = np.random.RandomState(0)
    return Examples(
        {"image": random.uniform(size=(COUNT, 5, 4, 1)).astype(np.float32), "row": random.normal(size=(COUNT, 3))},
        {
            "label": random.randint(2, 9, COUNT),
            "pixels": random.normal(size=(COUNT, 5, 4)),
            "number": random.normal(size=COUNT),
            "flags": random.randint(0, 2, (COUNT, 3)).astype(np.float32),
        },
        {
            "label": (np.arange(COUNT) % 3 > 0).astype(np.float64),
            "pixels": random.randint(0, 2, (COUNT, 5, 4)).astype(np.float64),
            "number": random.uniform(0.5, 2, COUNT),
        },
    )


def _dataset(**tree) -> DatasetConfig:
    return schema.record(DatasetConfig)(tree, "dataset")


def test_numbers_are_those_of_the_labels_that_are_there():
    examples = _examples()
    found = data_numbers.summarise(InMemory(examples), batch_size=7, seed=0)
    assert (found.examples, found.is_whole) == (COUNT, True)
    arrays = {f"inputs.{name}": values for name, values in examples.inputs.items()}
    arrays |= {f"targets.{name}": values for name, values in examples.targets.items()}
    assert set(found.tensors) == set(arrays)
    for name, values in arrays.items():
        weights = examples.weights.get(name.removeprefix("targets."), np.ones(COUNT))
        wide = np.broadcast_to(weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim)), values.shape)
        shown, numbers = values[wide > 0], found.tensors[name]
        expected = (shown.min(), shown.max(), shown.mean(dtype=np.float64), np.mean(wide == 0))
        assert (numbers.low, numbers.high, numbers.mean, numbers.missing) == pytest.approx(expected)
        assert (numbers.shape, numbers.dtype) == (values.shape[1:], values.dtype.name)
    label, flags = found.tensors["targets.label"], found.tensors["targets.flags"]
    assert label.counts == {
        value: int(np.sum(examples.targets["label"][examples.weights["label"] > 0] == value)) for value in label.counts
    }
    assert sum(label.counts.values()) == np.sum(examples.weights["label"] > 0)
    np.testing.assert_allclose(flags.ones, examples.targets["flags"].mean(axis=0))
    assert found.tensors["targets.number"].ones is None
    weights = examples.weights["number"]
    assert found.tensors["targets.number"].weights == pytest.approx((weights.min(), weights.max()))


@pytest.mark.parametrize("value", [0, 1])
def test_a_target_without_any_label_here_has_no_numbers(value):
    tally = data_numbers.Tally(tf.TensorSpec((), tf.float32))
    tally.add(np.full(4, value, np.float32), np.zeros(4))
    numbers = tally.summary()
    assert (numbers.low, numbers.mean, numbers.ones, numbers.missing, numbers.weights) == (None, None, None, 1.0, None)


def test_streaming_gives_the_numbers_of_memory_and_of_a_sample_says_so(records):
    folder, images, labels = records
    config = _dataset(**records_tree(folder, feed="streaming", augment=[{"name": "brightness", "by": 5.0}]))
    train = data.build(config).splits["train"]
    whole = data_numbers.summarise(train, batch_size=16, seed=0)
    assert whole.is_whole
    numbers = whole.tensors["targets.label"]
    assert numbers.counts == {0: 10, 1: 10, 2: 10}
    assert numbers.missing == 0.25
    inputs = whole.tensors["inputs"]
    assert (inputs.low, inputs.high, inputs.mean) == pytest.approx(
        (images.min() / 255, images.max() / 255, images.mean() / 255), rel=1e-6
    )
    some = data_numbers.summarise(train, batch_size=16, seed=0, sample=25)
    assert (some.examples, some.is_whole) == (25, False)
    shown = sum(some.tensors["targets.label"].counts.values())
    assert shown == pytest.approx(25 * (1 - some.tensors["targets.label"].missing))
    assert len(some.tensors["targets.label"].counts) == 3  # not the file's first 25, which are of three classes alone
    assert some.tensors["targets.label"].missing > 0
    assert data_tables.counted(some, "train") == "the first 25 examples of train"


def test_a_mixture_misses_what_the_quotas_leave():
    split = InMemory(Examples(np.zeros((COUNT, 2)), {"a": np.arange(COUNT)}))
    other = InMemory(Examples(np.zeros((COUNT, 2)), {"b": np.ones(COUNT)}))
    found = data_numbers.summarise(Mixture({"one": split, "two": other}, {"one": 3, "two": 1}), batch_size=8, seed=0)
    assert not found.is_whole
    assert found.tensors["targets.a"].missing == 0.25
    assert found.tensors["targets.b"].missing == 0.75
    assert found.tensors["targets.b"].low == 1


def _csv(folder) -> DatasetConfig:
    rows = [f"{index},{['red', 'blue'][index % 2]},{index % 5},{index / 10}" for index in range(20)]
    (folder / "rows.csv").write_text("\n".join(["size,colour,grade,price", *rows]) + "\n")
    return _dataset(
        name="csv",
        path=str(folder / "rows.csv"),
        held_out=0.2,
        inputs={"numbers": {"feature": ["size", "price"]}, "words": {"feature": ["colour"], "prepare": ["categories"]}},
        targets={
            "colour": {"prepare": ["classes"]},
            "is_red": {"feature": "colour", "prepare": [{"name": "equals", "values": ["red"]}]},
            "price": {"prepare": [{"name": "bins", "edges": [0.5, 1.0]}]},
            "dear": {"feature": "price", "prepare": [{"name": "threshold", "above": 1.5}]},
            "grade": {"missing": 0},
            "coarse": {
                "feature": "colour",
                "prepare": ["classes", {"name": "groups", "of": [1, 1]}, {"name": "one_hot", "classes": 2}],
            },
        },
    )


def test_names_of_columns_and_classes(tmp_path):
    names = data.build(_csv(tmp_path)).names
    assert names.columns["inputs.numbers"] == ("size", "price")
    assert names.classes == {
        "inputs.words": (("other", "blue", "red"),),
        "targets.colour": (("blue", "red"),),
        "targets.is_red": (("other", "red"),),
        "targets.price": (("below 0.5", "0.5 to 1", "from 1"),),
        "targets.dear": (("up to 1.5", "above 1.5"),),
        "targets.coarse": (("", "blue, red"),),
    }
    assert names.columns["targets.coarse"] == ("", "blue, red")


def _numbers(**changes) -> data_numbers.Summary:
    return data_numbers.Summary(
        **{"shape": (), "dtype": "int64", "low": 0, "high": 1, "mean": 0, "counts": None} | changes
    )


def test_balance():
    base = {"missing": 0.0, "weights": None, "ones": None}
    named = Names(classes={"targets.a": (("x", "y", "z"),)}, columns={"targets.b": ("p", "q")})
    assert data_tables.balance(_numbers(counts={0: 3, 2: 1}, **base), named, "targets.a") == {
        0: ("x", 0.75),
        1: ("y", 0.0),
        2: ("z", 0.25),
    }
    ones = base | {"ones": np.array([0.25, 1.0])}
    assert data_tables.balance(_numbers(**ones), named, "targets.b") == {0: ("p", 0.25), 1: ("q", 1.0)}
    assert data_tables.balance(_numbers(**base | {"ones": np.array([0.25])}), named, "targets.c") == {
        0: ("0", 0.75),
        1: ("1", 0.25),
    }
    assert data_tables.balance(_numbers(**base | {"ones": np.zeros((2, 2))}), named, "targets.c") is None
    assert data_tables.balance(_numbers(**base), named, "targets.c") is None


def test_of_many_classes_the_most_and_the_least_frequent_are_shown():
    counts = {value: value + 1 for value in range(100)}
    of_train = data_numbers.SplitSummary(
        {"targets.a": _numbers(counts=counts, missing=0.0, weights=None, ones=None)}, 5050, True
    )
    (table,) = data_tables.balances({"train": of_train, "validation": of_train}, Names())
    labels = list(table.columns[0].cells)
    assert labels[:6] == ["99", "98", "97", "96", "95", "94"]
    assert "88 between" in labels[6]
    assert labels[7:] == ["5", "4", "3", "2", "1", "0"]
    assert next(iter(table.columns[1].cells)) == f"{100 / 50.5:.1f} %"


@pytest.mark.parametrize(
    ("train", "validation", "names", "title", "shown"),
    [
        pytest.param(
            {"counts": {0: 3, 1: 1, 2: 4}},
            {"counts": {0: 1, 2: 3}},
            Names(),
            "balance",
            ["25.0 %", "-", "75.0 %"],
            id="classes",
        ),
        pytest.param(
            {"counts": {0: 3, 1: 1}},
            {"counts": {0: 1, 1: 3}},
            Names(classes={"targets.a": (("same", "same"),)}),
            "balance",
            ["25.0 %", "75.0 %"],
            id="classes of one name",
        ),
        pytest.param(
            {"ones": np.array([0.5])},
            {"ones": np.array([0.25])},
            Names(),
            "balance",
            ["75.0 %", "25.0 %"],
            id="one column",
        ),
        pytest.param(
            {"ones": np.array([0.5, 0.5])},
            {"ones": np.array([0.25, 0.125])},
            Names(columns={"targets.a": ("same", "same")}),
            "share of ones",
            ["25.0 %", "12.5 %"],
            id="two columns of one name",
        ),
        pytest.param(
            {"ones": np.array([0.5, 0.5])}, {"ones": None}, Names(), "share of ones", ["", ""], id="no ones elsewhere"
        ),
    ],
)
def test_balances_in_several_splits(train, validation, names, title, shown):
    base = {"missing": 0.0, "weights": None, "ones": None}
    summaries = {
        split: data_numbers.SplitSummary({"targets.a": _numbers(**base | changes)}, 8, True)
        for split, changes in (("train", train), ("validation", validation))
    }
    (table,) = data_tables.balances(summaries, names)
    assert table.title == f"a: {title}"
    assert list(table.columns[3].cells) == [tables.NOTHING if each == "-" else each for each in shown]


def test_what_is_said_of_an_example():
    examples = _examples()
    _, targets = picture_tensors.tensors(examples.structure, Names(classes={"targets.label": (tuple("abcdefghij"),)}))
    by_name = {tensor.name: tensor for tensor in targets}
    labels = [by_name["label"].words(index) for index in range(COUNT)]
    assert labels == [
        "abcdefghij"[value] if weight else picture_tensors.DASH
        for value, weight in zip(examples.targets["label"], examples.weights["label"], strict=True)
    ]
    assert by_name["number"].words(0) == f"{examples.targets['number'][0]:.3g}"
    assert by_name["flags"].words(1) == ", ".join(f"{value:.3g}" for value in examples.targets["flags"][1])


def _picture(split, names=Names()) -> np.ndarray:  # noqa: B008  (it cannot be changed)
    png = picture.draw(split, names, 4, 0, "a title")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        pytest.param((6, 5, 3), {"label": ()}, id="colour"),
        pytest.param((6, 5), {"label": (), "same": (6, 5), "long": (200,)}, id="picture as a target"),
        pytest.param((2, 6, 5, 2), {"label": ()}, id="several pictures, two channels"),
        pytest.param((300,), {"label": (1,), "vector": (12,)}, id="long vectors"),
        pytest.param((7,), {"label": (), "vector": (3,)}, id="table"),
        pytest.param((), {"label": (60,)}, id="scalar input, many rows"),
        pytest.param((), {f"label_{index}": () for index in range(20)} | {"map": (4, 4)}, id="more than is shown"),
        pytest.param((3,), {"map": (4, 4)}, id="a short vector and a picture"),
        pytest.param((3,), {"matrix": (2, 2)}, id="a short vector and a small matrix"),
    ],
)
def test_any_shapes_are_drawn(inputs, targets):
    random = np.random.RandomState(0)
    arrays = {name: random.normal(size=(9, *shape)) for name, shape in targets.items()}
    first = next(iter(arrays))
    weights = {first: (np.arange(9) % 2).astype(np.float64)}
    drawn = _picture(InMemory(Examples(random.normal(size=(9, *inputs)), arrays, weights)))
    assert drawn.std() > 5
    height, width, _ = drawn.shape
    assert 300 < width < 2500
    assert 100 < height < 3000


def test_a_picture_shows_its_pixels():
    chequered = (np.indices((8, 8)).sum(axis=0) % 2).astype(np.float32)[..., np.newaxis]
    drawn = _picture(InMemory(Examples(np.stack([chequered] * 4), {"label": np.arange(4)})))
    black = (drawn < 10).all(axis=2)
    across = np.flatnonzero(black.sum(axis=0) > 50)  # letters are not that high
    down = np.flatnonzero(black[:, across].sum(axis=1) > 50)
    # Where the first picture is: from its first black square to the white one before the second picture.
    side = round((down[-1] - down[0] + 1) / 8)
    top, left = down[0], across[0]
    middles = np.arange(8) * side + side // 2
    np.testing.assert_array_equal(black[np.ix_(top + middles, left + middles)], chequered[..., 0] == 0)


def test_rate_is_that_of_the_pipeline():
    split = InMemory(_examples())
    start = time.perf_counter()
    measured = rate.measure(split, batch_size=999, seed=0, seconds=0.2)
    assert measured.batch_size == COUNT
    assert 0 < measured.first_batch < time.perf_counter() - start
    assert measured.examples_per_second > COUNT
