"""A ResNet-50 trunk with 40 one-layer heads on noise: for planning, not for training.

python -m trainer.cost --config=tests/benchmarks/resnet50.py --losses=3,10,40 --replicas=8,64,512 --compare --markdown
"""

import ml_collections
import numpy as np

from input_pipelines.examples import Examples

_LOSSES, _CLASSES = 40, 10


def noise(examples: int = 64, size: int = 224) -> dict[str, Examples]:
    """Square images of noise with random classes, a target for every loss."""

    def split(seed: int) -> Examples:
        random = np.random.RandomState(seed)
        targets = {f"target_{k}": random.randint(_CLASSES, size=examples) for k in range(_LOSSES)}
        return Examples(random.uniform(size=(examples, size, size, 3)).astype(np.float32), targets)

    return {"train": split(0), "validation": split(1)}


def get_config(size: int = 224, losses: int = _LOSSES) -> ml_collections.ConfigDict:
    """64 images per step; the trunk is Keras' ResNet-50 without its last layer."""
    trunk = {"layer": "keras.applications:ResNet50", "weights": None, "include_top": False, "pooling": "avg"}
    loss = {"name": "sparse_categorical_crossentropy", "from_logits": True}
    return ml_collections.ConfigDict(
        {
            "batch_size": 64,
            "dataset": {"name": "tests.benchmarks.resnet50:noise", "options": {"size": size}},
            "model": {
                "trunk": [{**trunk, "input_shape": [size, size, 3]}],
                "heads": {f"head_{k}": [{"layer": "Dense", "units": _CLASSES}] for k in range(losses)},
            },
            "losses": {
                f"loss_{k}": {"head": f"head_{k}", "target": f"target_{k}", "loss": loss} for k in range(losses)
            },
            "combine": {"name": "pcgrad"},
        }
    )
