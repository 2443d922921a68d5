"""Three heads on scikit-learn's handwritten digits: which digit, what it looks like, how much ink.

python -m trainer.main --strategy=mirrored --combine=weighted
"""

import ml_collections


def _warm_up_and_cosine(peak: float) -> dict:
    return {
        "name": "cosine_decay",
        "initial_learning_rate": 0.0,
        "warmup_target": peak,
        "warmup_steps": "1 epoch",
    }


def _convolution(filters: int) -> dict:
    return {"layer": "Conv2D", "filters": filters, "kernel_size": 3, "padding": "same", "activation": "relu"}


def get_config() -> ml_collections.ConfigDict:
    """The default experiment: a small convolutional trunk, three heads; Adam for all but one of them."""
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "steps": "40 epochs",
            "batch_size": 64,
            "eval_every": "5 epochs",
            "dataset": {"name": "digits"},
            "model": {
                "trunk": [
                    _convolution(32),
                    _convolution(64),
                    {"layer": "MaxPooling2D"},
                    _convolution(64),
                    {"layer": "Flatten"},
                    {"layer": "Dense", "units": 128, "activation": "tanh"},
                ],
                "heads": {
                    "digit": [{"layer": "Dense", "units": 10}],
                    "image": [
                        {"layer": "Dense", "units": 128, "activation": "relu"},
                        {"layer": "Dense", "units": 64, "activation": "sigmoid"},
                        {"layer": "Reshape", "target_shape": (8, 8)},
                    ],
                    "ink": [{"layer": "Dense", "units": 1}],
                },
            },
            "losses": {
                "digit": {
                    "head": "digit",
                    "target": "digit",
                    "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True},
                    "metrics": ["accuracy"],
                },
                "redraw": {
                    "head": "image",
                    "target": "image",
                    "loss": "binary_crossentropy",
                    "metrics": ["mae"],
                },
                "ink": {
                    "head": "ink",
                    "target": "ink",
                    "loss": "mse",
                    "weight": 10.0,
                    "metrics": ["mae"],
                    "optimizer": {"name": "rmsprop", "learning_rate": _warm_up_and_cosine(1e-3)},
                },
            },
            "optimizer": {"name": "adam", "learning_rate": _warm_up_and_cosine(1e-3)},
            "combine": {"name": "weighted"},
        }
    )
