"""A dataset of `tf.data` in its own order: batches, starts anywhere, what cannot be used."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.examples import Ordered
from input_pipelines.feed import augmentation, in_order
from input_pipelines.feed.in_order import InOrder
from trainer.common.errors import ConfigError

COUNT, SIZE = 23, 5
ARRAYS = {
    "inputs": {"x": np.arange(2.0 * COUNT).reshape(COUNT, 2)},
    "targets": {"class": np.arange(COUNT) % 3, "number": np.where(np.arange(COUNT) % 4 == 0, np.nan, np.arange(COUNT))},
    "weights": {"number": (np.arange(COUNT) % 4 > 0).astype("float64")},
}
EXAMPLES = tf.data.Dataset.from_tensor_slices(ARRAYS)


def _split(dataset: tf.data.Dataset) -> InOrder:
    return InOrder(in_order.read(dataset, "dataset.train"), "dataset.train")


def _expected(step: int) -> dict:
    """The batch of a step as a loop over the examples makes it."""
    rows = [position % COUNT for position in range(step * SIZE, (step + 1) * SIZE)]
    batch = {part: {name: array[rows] for name, array in arrays.items()} for part, arrays in ARRAYS.items()}
    batch["targets"]["number"] = np.nan_to_num(batch["targets"]["number"])
    return batch


@pytest.mark.parametrize("first_step", [0, 7, 1_000_003])
@pytest.mark.parametrize(
    ("dataset", "count"),
    [
        (EXAMPLES, COUNT),
        (EXAMPLES.batch(4), COUNT),
        (EXAMPLES.batch(7).filter(lambda batch: True), COUNT),
        (EXAMPLES.batch(4).repeat(), None),
    ],
    ids=["examples", "batches", "of unknown number", "endless"],
)
def test_batches(dataset, count, first_step):
    """Those of a loop over the examples, from whichever step on, in two replicas' parts."""
    if count is None and first_step > 7:
        first_step = 40
    split = _split(dataset)
    assert split.examples.count == count
    assert in_order.discarded(split, first_step, SIZE) == first_step * SIZE % (count or 10**9)
    elements = split.training(batch_size=SIZE, seed=0, first_step=first_step, ends=[0, 2, SIZE]).take(14)
    parts = list(elements.as_numpy_iterator())
    for number, two in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        assert [len(part["inputs"]["x"]) for part in two] == [2, 3]
        batch = tf.nest.map_structure(lambda *values: np.concatenate(values), *two)
        tf.nest.map_structure(np.testing.assert_array_equal, batch, _expected(first_step + number))
    tf.nest.map_structure(np.testing.assert_array_equal, split.first(SIZE), _expected(0))


def test_augmentation_depends_on_the_position():
    split = _split(EXAMPLES)
    changes = augmentation.build(
        [{"name": "noise", "deviation": 1.0, "on": ["inputs.x"]}], "augment", split.spec, split.first
    )
    split = InOrder(split.examples, split.field, changes)
    options = {"batch_size": SIZE, "seed": 3}
    whole = list(split.training(first_step=0, ends=[0, SIZE], **options).take(12).as_numpy_iterator())
    later = next(split.training(first_step=11, ends=[0, SIZE], **options).as_numpy_iterator())
    np.testing.assert_array_equal(later["inputs"]["x"], whole[11]["inputs"]["x"])
    noise = [batch["inputs"]["x"] - _expected(step)["inputs"]["x"] for step, batch in enumerate(whole)]
    assert len(np.unique(noise)) == 12 * SIZE * 2
    assert np.std(noise) == pytest.approx(1, abs=0.3)


def test_what_cannot_be_used_is_named():
    split = _split(EXAMPLES.batch(4)).check_classes("class", 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="class.* holds 2, which is none of the classes"):
        list(split.training(batch_size=SIZE, seed=0, first_step=0, ends=[0, SIZE]).take(2))
    reason = "target 'class' holds 2, which is none of the classes 0 to 1"
    assert split.reason(4, SIZE, 0) == f"example 20 of dataset.train: {reason}"
    weights = {"number": np.where(np.arange(COUNT) == 12, -1.0, 1.0)}
    split = _split(tf.data.Dataset.from_tensor_slices(ARRAYS | {"weights": weights}).repeat())
    assert split.reason(1, SIZE, 0) == "example 12 of dataset.train: weight 'number' must be finite and at least 0"
    assert _split(EXAMPLES).reason(0, SIZE, 0) is None


def test_several_workers_are_refused():
    with pytest.raises(ConfigError, match="dataset.train='tf.data.Dataset': is read by one process alone"):
        _split(EXAMPLES).training(batch_size=SIZE, seed=0, first_step=0, ends=[0, 3])


def test_labels():
    found = list(_split(EXAMPLES.batch(7)).labels(["class", "number"]))
    np.testing.assert_array_equal(np.concatenate([each["class"][0] for each in found]), ARRAYS["targets"]["class"])
    weights = np.concatenate([each["number"][1] for each in found])
    np.testing.assert_array_equal(weights, ARRAYS["weights"]["number"])
    assert all(each["class"][1] is None for each in found)
    with pytest.raises(ConfigError, match="never ends"):
        next(_split(EXAMPLES.repeat()).labels(["class"]))


def test_a_dataset_that_differs_each_time():
    """Its fingerprint holds shapes and types alone, and a line says what resuming means for it."""
    orders = [
        EXAMPLES.shuffle(COUNT, seed=seed, reshuffle_each_iteration=each) for seed, each in ((1, True), (1, False))
    ]
    anew, fixed = (in_order.read(dataset, "dataset.train") for dataset in orders)
    assert (anew.repeats, fixed.repeats) == (False, True)
    assert InOrder(fixed, "dataset.train").notes() == []
    [note] = InOrder(anew, "dataset.train").notes()
    assert "dataset.train gives other examples each time it is read" in note
    assert _bytes(anew) == _bytes(in_order.read(EXAMPLES.shuffle(COUNT, seed=2), "dataset.train"))
    assert _bytes(fixed) != _bytes(in_order.read(EXAMPLES, "dataset.train"))


def _bytes(split: Ordered) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in in_order.identity(split).items()}
