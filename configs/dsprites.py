"""dSprites (https://github.com/deepmind/dsprites-dataset): the five factors that a white shape is drawn from.

Which of three shapes, of six sizes, of 40 orientations, and at which of 32 x 32 places, each as classes. Of the 737,280
pictures, all combinations once, nine tenths (drawn by TFDS) are to train on; they are read while training, because they
would take 12 GB. A square looks the same after every quarter turn and an ellipse after half a turn, so no model reads
all orientations.

python -m trainer.main --config=configs/dsprites.py --download
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "x_position": 32, "y_position": 32}


def get_config() -> ml_collections.ConfigDict:
    """A convolutional trunk and a head for each factor."""
    # TFDS stores 0 and 1, which an image of 0 to 255 would not be.
    return factors_of("dsprites", FACTORS, prepare={"name": "clip", "low": 0, "high": 1})


def factors_of(dataset: str, factors: Mapping[str, int], *, prepare: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """The factors of drawn pictures of 64 x 64 pixels, each read by a head of its own.

    Args:
      dataset: its name in TFDS's catalogue; its only split is `train`.
      factors: factor → the number of its classes; its feature is `label_<factor>`.
      prepare: the operation that brings the picture to 0 to 1.
    """
    return ml_collections.ConfigDict(
        {
            "steps": "4 epochs",
            "batch_size": 256,
            "eval_every": "1 epoch",
            "dataset": {
                "name": f"tfds/{dataset}",
                "splits": {"train": "train[:90%]", "validation": "train[90%:]"},
                "inputs": {"image": {"prepare": [prepare]}},
                "targets": {factor: {"feature": f"label_{factor}"} for factor in factors},
            },
            "model": {
                "trunk": [
                    *(_halving_convolution(filters) for filters in (32, 32, 64, 64)),
                    {"layer": "Flatten"},
                    {"layer": "Dense", "units": 256, "activation": "relu"},
                ],
                "heads": {
                    factor: [
                        {"layer": "Dense", "units": 64, "activation": "relu"},
                        {"layer": "Dense", "units": classes},
                    ]
                    for factor, classes in factors.items()
                },
            },
            "losses": {
                factor: {
                    "head": factor,
                    "target": factor,
                    "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True},
                    "metrics": ["accuracy"],
                }
                for factor in factors
            },
            "optimizer": _adam(),
            "combine": {"name": "weighted"},
        }
    )


def _adam() -> dict:
    rate = {"name": "cosine_decay", "initial_learning_rate": 0.0, "warmup_target": 1e-3, "warmup_steps": "0.1 epochs"}
    return {"name": "adam", "learning_rate": rate}


def _halving_convolution(filters: int) -> dict:
    return {
        "layer": "Conv2D",
        "filters": filters,
        "kernel_size": 4,
        "strides": 2,
        "padding": "same",
        "activation": "relu",
    }
