"""Random changes of training examples: what each does, and that it depends on seed and position alone."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.examples import Examples
from input_pipelines.feed import augmentation, splits
from input_pipelines.feed.augmentation import Augmentation
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.feed.random_draws import Draws
from trainer.common.errors import ConfigError

PICTURES = np.random.RandomState(0).uniform(size=(40, 6, 8, 2)).astype(np.float32)
POSITIONS = tf.range(100, 140, dtype=tf.int64)
OPERATIONS = [
    {"name": "flip"},
    {"name": "flip", "axis": "vertical"},
    {"name": "shift", "by": 0.3},
    {"name": "rotate", "degrees": 20},
    {"name": "zoom", "by": 0.3},
    {"name": "brightness", "by": 0.2},
    {"name": "contrast", "by": 0.5},
    {"name": "noise", "deviation": 0.1},
    {"name": "cutout", "size": 3},
    {"name": "tests.input_pipelines.test_augmentation:own", "factor": 2.0},
]


def own(values, draws, factor):
    """A user's operation with TensorFlow's stateless ones."""
    noise = tf.map_fn(lambda seed: tf.random.stateless_uniform([], seed), draws.seeds, fn_output_signature=tf.float32)
    return values + factor * noise[:, None, None, None]


def _spec(**targets) -> dict:
    return {"inputs": tf.TensorSpec(PICTURES.shape[1:], tf.float32), "targets": targets}


def _build(*specs: dict) -> Augmentation:
    return augmentation.build(specs, "dataset.augment", _spec(mask=tf.TensorSpec(PICTURES.shape[1:], tf.float32)))


def _changed(spec: dict, seed: int = 0) -> np.ndarray:
    return _build(spec)({"inputs": tf.constant(PICTURES), "targets": {}}, seed, POSITIONS)["inputs"].numpy()


def _uniform(*bounds) -> np.ndarray:
    return Draws(0, 0, POSITIONS).uniform(*bounds).numpy()


def test_flips_half_of_the_pictures():
    for axis, number in (("horizontal", 2), ("vertical", 1)):
        changed = _changed({"name": "flip", "axis": axis})
        mirrored = _uniform(0, 1) < 0.5
        assert 0 < mirrored.sum() < len(mirrored)
        np.testing.assert_array_equal(changed[mirrored], np.flip(PICTURES, number)[mirrored])
        np.testing.assert_array_equal(changed[~mirrored], PICTURES[~mirrored])


def test_shifts_by_whole_pixels_into_black():
    changed = _changed({"name": "shift", "by": 0.3})
    moves = np.round(_uniform(-0.3, 0.3, 2) * [6, 8]).astype(int)
    for before, after, (down, right) in zip(PICTURES, changed, moves, strict=True):
        expected = np.zeros_like(before)
        for row in range(6):
            for column in range(8):
                if 0 <= row + down < 6 and 0 <= column + right < 8:
                    expected[row, column] = before[row + down, column + right]
        np.testing.assert_array_equal(after, expected)


def test_a_quarter_turn_and_a_zoom_about_the_middle():
    square = tf.constant(PICTURES[:, :, 1:7])
    ones, zeros = tf.ones([len(PICTURES)]), tf.zeros([len(PICTURES)])
    turned = augmentation._about_the_middle(square, zeros, ones).numpy()
    np.testing.assert_allclose(turned, np.rot90(square, axes=(1, 2)), atol=1e-5)
    same = augmentation._about_the_middle(square, ones, zeros).numpy()
    np.testing.assert_allclose(same, square, atol=1e-6)
    smaller = augmentation._about_the_middle(square, 2 * ones, zeros).numpy()
    assert (smaller[:, 0] == 0).all()
    assert (smaller[:, 2:4, 2:4] > 0).all()


def test_brightness_contrast_and_cutout():
    np.testing.assert_allclose(
        _changed({"name": "brightness", "by": 0.2}), PICTURES + _uniform(-0.2, 0.2)[:, None, None, None], rtol=1e-6
    )
    mean = PICTURES.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(
        _changed({"name": "contrast", "by": 0.5}),
        mean + _uniform(0.5, 1.5)[:, None, None, None] * (PICTURES - mean),
        rtol=1e-4,
        atol=1e-6,
    )
    black = (_changed({"name": "cutout", "size": 3}) == 0).all(axis=3)
    for hidden in black:
        rows, columns = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
        assert hidden.sum() == len(rows) * len(columns)
        assert max(len(rows), len(columns)) == 3 or 0 in (*rows, *columns) or 5 in rows or 7 in columns


def test_noise_has_the_deviation():
    difference = _changed({"name": "noise", "deviation": 0.1}) - PICTURES
    assert (difference.mean(), difference.std()) == pytest.approx((0, 0.1), abs=0.005)


@pytest.mark.parametrize("spec", OPERATIONS, ids=lambda spec: spec["name"].rpartition(":")[2])
def test_every_operation_depends_on_seed_and_position_alone(spec):
    changed = _changed(spec)
    assert changed.shape == PICTURES.shape
    assert not np.array_equal(changed, PICTURES)
    assert not np.array_equal(changed, _changed(spec, seed=1))
    part = _build(spec)({"inputs": tf.constant(PICTURES[7:9]), "targets": {}}, 0, POSITIONS[7:9])["inputs"]
    np.testing.assert_allclose(part, changed[7:9], rtol=1e-6, atol=1e-7)


def test_what_goes_together_is_changed_together():
    on = ["inputs", "targets.mask"]
    batch = {"inputs": tf.constant(PICTURES), "targets": {"mask": tf.constant(2 * PICTURES)}}
    changed = _build({"name": "shift", "by": 0.4, "on": on}, {"name": "flip", "on": on})(batch, 5, POSITIONS)
    np.testing.assert_array_equal(changed["targets"]["mask"], 2 * changed["inputs"])
    alone = _build({"name": "flip"})(batch, 5, POSITIONS)
    np.testing.assert_array_equal(alone["targets"]["mask"], batch["targets"]["mask"])


@pytest.mark.parametrize(("workers", "replicas", "first_step"), [(1, 1, 3), (1, 4, 0), (2, 2, 0), (1, 3, 5)])
def test_replicas_workers_and_starts_do_not_matter(workers, replicas, first_step):
    """Over several epochs, each of which changes a picture in another way."""
    examples = Examples(PICTURES, {"t": np.arange(40)})
    split = InMemory(
        examples, augmentation.build([{"name": "noise", "deviation": 0.1}], "a", _spec(t=tf.TensorSpec((), tf.int64)))
    )

    def batches(workers: int, replicas: int, first: int) -> np.ndarray:
        shares = []
        for worker in range(workers):
            ends = splits.ends(tf.distribute.InputContext(workers, worker, replicas), 9)
            dataset = split.training(batch_size=9, seed=1, first_step=first, ends=ends)
            local = replicas // workers
            elements = [batch["inputs"] for batch in dataset.take(local * (10 - first)).as_numpy_iterator()]
            shares.append([np.concatenate(elements[i : i + local]) for i in range(0, len(elements), local)])
        return np.concatenate([np.concatenate(step) for step in zip(*shares, strict=True)])

    one = batches(1, 1, 0)
    np.testing.assert_array_equal(batches(workers, replicas, first_step), one[9 * first_step :])
    assert len(np.unique(one.sum(axis=(1, 2, 3)))) == 90


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"name": "flp"}, "0.name", "did you mean 'flip'"),
        ({"name": "shift"}, "0.by", "is missing"),
        ({"name": "shift", "by": 1.5}, "0.by", "below 1"),
        ({"name": "flip", "on": "targets.msk"}, "0.on", "did you mean 'targets.mask'"),
        ({"name": "flip", "on": "targets.label"}, "0", "targets.label, which is not of real numbers"),
        ({"name": "flip", "on": "targets.number"}, "0", "does not fit an example of shape ()"),
        ({"name": "tests.input_pipelines.test_augmentation:own"}, "0.factor", "is missing"),
    ],
)
def test_mistakes_are_named(spec, field, words):
    targets = {
        "mask": tf.TensorSpec((6, 8, 2), tf.float32),
        "label": tf.TensorSpec((), tf.int64),
        "number": tf.TensorSpec((), tf.float32),
    }
    with pytest.raises(ConfigError) as caught:
        augmentation.build([spec], "dataset.augment", _spec(**targets))
    assert caught.value.field == f"dataset.augment.{field}"
    assert words in str(caught.value)
