"""A process that measures the trainer, Keras and bare TensorFlow: python -m tests.benchmarks.tensorflow_worker 2."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402  (the variable is read)

from tests.benchmarks import combining, feeding, keras_fit, kernels, ours, workers  # noqa: E402
from tests.benchmarks.problems import Gradients, Preset, Problem  # noqa: E402
from trainer.distributed import strategy  # noqa: E402

_OF_GRADIENTS = {
    "weights": combining.weights,
    "aggregated": combining.aggregated,
    "products": combining.products,
    "mixed": combining.mixed,
}
_OF_PRESET = {
    "pipeline": feeding.pipeline,
    "plain": feeding.plain,
    "preset": feeding.train,
}


def main(devices: int) -> None:
    """Serves on this number of logical CPU devices."""
    mirrored = strategy.build("mirrored", virtual_devices=devices)
    contenders: dict[str, Callable[[int], float]] = {}

    def build(name: str, kind: str, problem: Mapping[str, Any], **options: Any) -> None:
        if kind in _OF_GRADIENTS:
            contenders[name] = _OF_GRADIENTS[kind](Gradients(**problem), **options)
            return
        if kind in _OF_PRESET:
            contenders[name] = _OF_PRESET[kind](Preset(**problem), mirrored, **options)
            return
        described = Problem(**problem)
        match kind:
            case "ours":
                contenders[name] = ours.train(described, mirrored, **options)
            case "ours on one batch":
                contenders[name] = ours.train_on_one_batch(described, mirrored, **options)
            case "keras":
                contenders[name] = keras_fit.train(described, mirrored, **options)
            case "keras without a strategy":
                contenders[name] = keras_fit.train(described, tf.distribute.get_strategy(), **options)
            case "kernels":
                contenders[name] = kernels.train(described, **options)

    workers.serve(
        {
            "build": build,
            "steps": lambda name, count: contenders[name](count),
            "payload": lambda problem, **changes: ours.payload(Problem(**problem), mirrored, **changes),
            "peak_memory": workers.peak_memory,
            "first_batch": lambda preset, step: feeding.first_batch(Preset(**preset), mirrored, step),
            "window": lambda preset: feeding.window(Preset(**preset), mirrored),
        }
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
