"""Examples that no data have, of the right kind: numbers near those of training, its categories, noise as pictures."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from input_pipelines.preparation.chain import Chain
from input_pipelines.raw_features import Picture, RawFeature
from trainer.export.trained import Trained

_SIDE = 24  # pixels, where the size varies


def examples(trained: Trained, count: int) -> dict[str, np.ndarray]:
    """Feature → (count, ...) values as a caller gives them; the first example lacks what can be absent."""
    random = np.random.default_rng(0)
    found = {name: _values(trained, name, each, count, random) for name, each in trained.features.items()}
    for name, feature in trained.features.items():
        if feature.absent is not None:
            found[name][0] = feature.absent
    return found


def pictures_of(picture: Picture, count: int) -> np.ndarray:
    """(count,) bytes objects: PNGs of noise."""
    random, found = np.random.default_rng(0), np.empty(count, object)
    height, width, channels = (side or _SIDE for side in picture.spec.shape.as_list())
    for index in range(count):
        high = picture.spec.dtype.max + 1
        pixels = random.integers(0, high, (height, width, channels)).astype(picture.spec.dtype.as_numpy_dtype)
        found[index] = tf.io.encode_png(pixels).numpy()
    return found


def _values(trained: Trained, name: str, feature: RawFeature, count: int, random: np.random.Generator) -> np.ndarray:
    if feature.picture is not None:
        return pictures_of(feature.picture, count)
    dtype, shape = feature.spec.dtype, (count, *(side or 1 for side in feature.spec.shape.as_list()))
    labels = list(dict.fromkeys(label for chain, place in _uses(trained, name) for label in _labels(chain, place)))
    if dtype == tf.string:
        found = np.empty(shape, object)
        found[...] = random.choice(np.array([label.encode() for label in labels] or [b"text"], object), shape)
        return found
    if labels and dtype.is_integer:
        return random.choice(np.array([int(label) for label in labels]), shape).astype(dtype.as_numpy_dtype)
    mean, deviation = next(_moments(trained, name), (0.5, 0.5))
    numbers = mean + deviation * random.uniform(-1, 1, shape)
    return (np.round(np.abs(numbers)) if dtype.is_integer else numbers).astype(dtype.as_numpy_dtype)


def _uses(trained: Trained, name: str) -> Iterator[tuple[Any, int]]:
    """(what the operations of an input learned, the feature's place in it) for every input made of a feature."""
    chains: list[Chain] = list(trained.preparation.inputs.values())
    for chain in chains:
        if name in chain.features:
            yield trained.preparation.statistics[chain.field], chain.features.index(name)


def _labels(learned: list[dict[str, Any]], place: int) -> list[str]:
    """The categories or classes that the operations of an input know of the feature at a place."""
    for of_operation in learned:
        names = of_operation.get("names")
        if names:
            return list(names[place]) if isinstance(names[0], list | tuple) else list(names)
    return []


def _moments(trained: Trained, name: str) -> Iterator[tuple[float, float]]:
    """Mean and deviation of a feature in training."""
    for learned, place in _uses(trained, name):
        for of_operation in learned:
            if "deviation" in of_operation:
                mean, deviation = (np.ravel(of_operation[key]) for key in ("mean", "deviation"))
                yield float(mean[place % mean.size]), float(deviation[place % deviation.size])
