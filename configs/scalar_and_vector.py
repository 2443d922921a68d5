"""A scalar and a vector output, optimised independently: absolute error by Adam, squared by RMSprop.

"How can multiple loss functions be optimized independently in Keras?", example 2.

From the weight, pulse and jumps of 20 middle-aged men, their waist (one number) and their chin-ups and sit-ups (two).
With four men held out this shows shapes, not skill: an absolute error of 0.306 and a squared one of 0.421 (guessing
the mean: 0.290 and 0.642).

bash launch/local.sh --config=configs/scalar_and_vector.py
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """A trunk of 8, heads of 1 and 2, the whole training split (16 examples) as every batch."""
    return ml_collections.ConfigDict(
        {
            "steps": 600,
            "batch_size": 16,
            "report_every": 100,
            "eval_every": 200,
            "dataset": {
                "name": "linnerud",
                "options": {"targets": {"waist": {"columns": "Waist"}, "exercises": {"columns": ["Chins", "Situps"]}}},
            },
            "model": {
                "trunk": [{"layer": "Dense", "units": 8, "activation": "tanh"}],
                "heads": {
                    "waist": [{"layer": "Dense", "units": 1}],
                    "exercises": [{"layer": "Dense", "units": 2}],
                },
            },
            "losses": {
                "waist": {
                    "head": "waist",
                    "target": "waist",
                    "loss": "mae",
                    "metrics": ["mae"],
                    "optimizer": {"name": "adam", "learning_rate": 1e-3},
                },
                "exercises": {
                    "head": "exercises",
                    "target": "exercises",
                    "loss": "mse",
                    "metrics": ["mse"],
                    "optimizer": {"name": "rmsprop", "learning_rate": 5e-4},
                },
            },
            "combine": {"name": "independent"},
        }
    )
