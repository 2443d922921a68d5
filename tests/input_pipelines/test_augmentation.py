"""Random changes of training examples: what each does, and that it depends on seed and position alone."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipelines.examples import Examples
from input_pipelines.feed import augmentation, moves, splits
from input_pipelines.feed.augmentation import Augmentation
from input_pipelines.feed.in_memory import InMemory
from input_pipelines.feed.random_draws import Draws
from trainer.common.errors import ConfigError

PICTURES = np.random.RandomState(0).uniform(size=(40, 6, 8, 2)).astype(np.float32)
BATCH = {"inputs": tf.constant(PICTURES), "targets": {"mask": tf.constant(PICTURES)}}
POSITIONS = tf.range(100, 140, dtype=tf.int64)
MOVES = [{"name": "flip"}, {"name": "shift", "by": 0.3}, {"name": "rotate", "degrees": 30}, {"name": "zoom", "by": 0.3}]
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


def _build(*specs: dict, target: np.ndarray = PICTURES) -> Augmentation:
    spec = _spec(mask=tf.TensorSpec(target.shape[1:], tf.as_dtype(target.dtype)))
    return augmentation.build(specs, "dataset.augment", spec, lambda count: {"targets": {"mask": target[:count]}})


def _changed(spec: dict, seed: int = 0) -> np.ndarray:
    return _build(spec | {"on": "inputs"})(BATCH, seed, POSITIONS)["inputs"].numpy()


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
    turned = moves.about_the_middle(square, zeros, ones).numpy()
    np.testing.assert_allclose(turned, np.rot90(square, axes=(1, 2)), atol=1e-5)
    same = moves.about_the_middle(square, ones, zeros).numpy()
    np.testing.assert_allclose(same, square, atol=1e-6)
    smaller = moves.about_the_middle(square, 2 * ones, zeros).numpy()
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
    part = _build(spec)(tf.nest.map_structure(lambda values: values[7:9], BATCH), 0, POSITIONS[7:9])["inputs"]
    np.testing.assert_allclose(part, changed[7:9], rtol=1e-6, atol=1e-7)


def test_what_goes_together_is_changed_together():
    on = ["inputs", "targets.mask"]
    batch = {"inputs": tf.constant(PICTURES), "targets": {"mask": tf.constant(2 * PICTURES)}}
    changed = _build({"name": "shift", "by": 0.4, "on": on}, {"name": "flip", "on": on})(batch, 5, POSITIONS)
    np.testing.assert_array_equal(changed["targets"]["mask"], 2 * changed["inputs"])
    alone = _build({"name": "flip", "on": "inputs"})(batch, 5, POSITIONS)
    np.testing.assert_array_equal(alone["targets"]["mask"], batch["targets"]["mask"])


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
@pytest.mark.parametrize("weights", [None, "examples", "pixels"])
@pytest.mark.parametrize("move", MOVES, ids=lambda spec: spec["name"])
def test_classes_on_pixels_stay_classes_and_keep_their_weights(move, weights, dtype):
    """Classes 1, 3 and 4; the input says what a pixel's class and weight were, and 0 that it comes from outside."""
    random = np.random.RandomState(1)
    classes = random.choice([1, 3, 4], size=(40, 6, 8, 1)).astype(dtype)
    given = {"examples": 1.0 + np.arange(40), "pixels": random.choice([0, 1, 2], size=(40, 6, 8))}.get(weights)
    per_pixel = np.ones((40, 6, 8)) if given is None else np.broadcast_to(given.T, (8, 6, 40)).T
    if weights == "pixels":
        per_pixel = given
    source = classes[..., 0].astype(np.int64) * 100 + per_pixel.astype(np.int64) + 1  # moved as the target is: nearest
    batch = {"inputs": tf.constant(source[..., None]), "targets": {"mask": tf.constant(classes)}}
    if given is not None:
        batch["weights"] = {"mask": tf.constant(given, tf.float32)}
    spec = {"inputs": tf.TensorSpec((6, 8, 1), tf.int64), "targets": {"mask": tf.TensorSpec((6, 8, 1), dtype)}}
    built = augmentation.build([move], "dataset.augment", spec, lambda count: {"targets": {"mask": classes[:count]}})
    after = built(batch, 3, POSITIONS)
    seen, mask = after["inputs"].numpy()[..., 0], after["targets"]["mask"].numpy()[..., 0]
    inside = seen > 0
    assert mask.dtype == dtype
    assert not np.array_equal(mask, classes[..., 0])
    np.testing.assert_array_equal(mask, np.where(inside, seen // 100, 0))
    if "weights" in after:
        found = after["weights"]["mask"].numpy()
        found = found if found.ndim == 3 else np.broadcast_to(found[:, None, None], inside.shape)
        np.testing.assert_array_equal(found, np.where(inside, seen % 100 - 1, 0))
    else:
        assert (move["name"], weights, inside.all()) == ("flip", None, True)


def test_numbers_on_pixels_are_mixed_of_labelled_ones_alone():
    """A plane in x and y stays one under rotation wherever it has a weight; a pixel without a label spoils none."""
    rows, columns = np.meshgrid(np.arange(12.0), np.arange(12.0), indexing="ij")
    plane = np.broadcast_to((rows + 2 * columns + 0.5)[..., None], (40, 12, 12, 1)).astype(np.float32)
    holes = np.random.RandomState(0).uniform(size=(40, 12, 12)) > 0.05
    inputs = np.stack([np.broadcast_to(rows, holes.shape), np.broadcast_to(columns, holes.shape)], -1)
    spec = {"inputs": tf.TensorSpec((12, 12, 2), tf.float32), "targets": {"t": tf.TensorSpec((12, 12, 1), tf.float32)}}
    built = augmentation.build([MOVES[2]], "dataset.augment", spec, lambda count: {"targets": {"t": plane[:count]}})
    batch = {
        "inputs": tf.constant(inputs, tf.float32),
        "targets": {"t": tf.constant(np.where(holes[..., None], plane, 0))},
        "weights": {"t": tf.constant(holes, tf.float32)},
    }
    after = built(batch, 0, POSITIONS)
    weights, seen = after["weights"]["t"].numpy() > 0, after["inputs"].numpy()
    assert 0.3 < weights.mean() < 0.9
    expected = (seen[..., :1] + 2 * seen[..., 1:] + 0.5) * weights[..., None]
    np.testing.assert_allclose(after["targets"]["t"], expected, atol=1e-3)


def test_moves_take_along_what_lies_on_the_picture():
    spec = {
        "inputs": {"image": tf.TensorSpec((6, 8, 2), tf.float32), "age": tf.TensorSpec((1,), tf.float32)},
        "targets": {
            "mask": tf.TensorSpec((6, 8), tf.int64),
            "half": tf.TensorSpec((3, 4, 1), tf.float32),
            "label": tf.TensorSpec((), tf.int64),
        },
    }
    built = augmentation.build([{"name": "rotate", "degrees": 9}], "a", spec, lambda count: {})
    assert built.operations[0][1] == ("inputs.image", "targets.mask")
    changed = built.changed(spec)
    assert changed["weights"] == {"mask": tf.TensorSpec((6, 8), tf.float32)}
    assert {part: changed[part] for part in spec} == spec


@pytest.mark.parametrize(
    ("workers", "replicas", "first_step"),
    [(1, 3, 5), (2, 2, 0), *(pytest.param(*each, marks=pytest.mark.ci_only) for each in ((1, 1, 3), (1, 4, 0)))],
)
def test_replicas_workers_and_starts_do_not_matter(workers, replicas, first_step):
    """Over several epochs, each of which changes a picture in another way."""
    examples = Examples(PICTURES, {"t": np.arange(40)})
    split = InMemory(
        examples,
        augmentation.build([{"name": "noise", "deviation": 0.1}], "a", _spec(t=tf.TensorSpec((), tf.int64)), None),
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
        ({"name": "flip", "on": "targets.label"}, "0", "does not fit an example of shape ()"),
        ({"name": "noise", "deviation": 1, "on": "targets.label"}, "0", "targets.label, which is not of real numbers"),
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
        augmentation.build([spec], "dataset.augment", _spec(**targets), None)
    assert caught.value.field == f"dataset.augment.{field}"
    assert words in str(caught.value)
