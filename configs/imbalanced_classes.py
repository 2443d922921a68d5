"""An imbalanced class beside another head: binary cross-entropy with a weight for each class.

"How can TensorFlow models be trained with multiple outputs?", example 3.

A tenth of the handwritten digits are eights. Held out, 96.4 % of the eights are found (recall) and 75.0 % of what is
called an eight is one (precision); without class weights 78.6 % and 100 %. The error of the ink is 0.009 (guessing
the mean: 0.027).

bash launch/local.sh --config=configs/imbalanced_classes.py
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Is it an eight? And how much ink? The eights weigh nine times as much as the others."""
    return ml_collections.ConfigDict(
        {
            "steps": "60 epochs",
            "batch_size": 32,
            "steps_per_loop": 100,
            "eval_every": "20 epochs",
            "dataset": {"name": "digits", "options": {"targets": ["is_eight", "ink"]}},
            "model": {
                "trunk": [{"layer": "Flatten"}, {"layer": "Dense", "units": 32, "activation": "relu"}],
                "heads": {
                    "eight": [{"layer": "Dense", "units": 1, "activation": "sigmoid"}],
                    "ink": [{"layer": "Dense", "units": 1}],
                },
            },
            "losses": {
                "eight": {
                    "head": "eight",
                    "target": "is_eight",
                    "loss": {"name": "class_weighted_binary_crossentropy", "class_weights": [0.1, 0.9]},
                    "metrics": ["recall", "precision", "auc"],
                },
                "ink": {"head": "ink", "target": "ink", "loss": "mse", "metrics": ["mae"]},
            },
        }
    )
