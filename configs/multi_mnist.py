"""MultiMNIST as in Sener and Koltun 2018 (https://arxiv.org/abs/1810.04650): two overlaid digits, both to be read.

60,000 pictures of 36 x 36 to train on and 10,000 to validate on, made from TFDS's `mnist` and held in memory
(`input_pipelines/datasets/multi_mnist.py` says how). The trunk is of LeNet's kind, as the paper's is; how the digits
are paired is drawn anew here, so the pictures are not the paper's.

python -m trainer.main --config=configs/multi_mnist.py --download
"""

import ml_collections

DIGITS = ("left", "right")


def _adam() -> dict:
    rate = {"name": "cosine_decay", "initial_learning_rate": 0.0, "warmup_target": 2e-3, "warmup_steps": "1 epoch"}
    return {"name": "adam", "learning_rate": rate}


def _convolution(filters: int) -> dict:
    return {"layer": "Conv2D", "filters": filters, "kernel_size": 5, "activation": "relu"}


def get_config() -> ml_collections.ConfigDict:
    """Two convolutions, a shared layer, and a small head for each digit."""
    return ml_collections.ConfigDict(
        {
            "steps": "20 epochs",
            "batch_size": 256,
            "eval_every": "2 epochs",
            "dataset": {"name": "multi_mnist"},
            "model": {
                "trunk": [
                    _convolution(16),
                    {"layer": "MaxPooling2D"},
                    _convolution(32),
                    {"layer": "MaxPooling2D"},
                    {"layer": "Flatten"},
                    {"layer": "Dense", "units": 128, "activation": "relu"},
                ],
                "heads": {
                    name: [
                        {"layer": "Dense", "units": 64, "activation": "relu"},
                        {"layer": "Dropout", "rate": 0.5},
                        {"layer": "Dense", "units": 10},
                    ]
                    for name in DIGITS
                },
            },
            "losses": {
                name: {
                    "head": name,
                    "target": name,
                    "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True},
                    "metrics": ["accuracy"],
                }
                for name in DIGITS
            },
            "optimizer": _adam(),
            "combine": {"name": "weighted"},
        }
    )
