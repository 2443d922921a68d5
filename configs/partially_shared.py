"""Partly shared: one head straight on the trunk, the other through a layer of its own.

"How can TensorFlow models be trained with multiple outputs?", example 2.

Of a handwritten digit, which pair it is in (0 or 1, 2 or 3, ...: five classes) and whether it is odd; neither follows
from the other. Held out, accuracies of 96.4 % and 99.2 % (the most frequent class: 18.3 % and 49.4 %).

bash launch/local.sh --config=configs/partially_shared.py
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """A trunk of 32; a softmax of 5, and a softmax of 2 behind a layer of 16."""
    accuracy = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    return ml_collections.ConfigDict(
        {
            "steps": "40 epochs",
            "batch_size": 32,
            "eval_every": "10 epochs",
            "dataset": {"name": "digits", "options": {"targets": ["pair", "odd"]}},
            "model": {
                "trunk": [{"layer": "Flatten"}, {"layer": "Dense", "units": 32, "activation": "relu"}],
                "heads": {
                    "pair": [{"layer": "Dense", "units": 5, "activation": "softmax"}],
                    "odd": [
                        {"layer": "Dense", "units": 16, "activation": "relu"},
                        {"layer": "Dense", "units": 2, "activation": "softmax"},
                    ],
                },
            },
            "losses": {
                "pair": {"head": "pair", "target": "pair", **accuracy},
                "odd": {"head": "odd", "target": "odd", **accuracy},
            },
        }
    )
