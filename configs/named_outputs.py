"""Named heads, each with its own loss and metric, and targets by name.

"Can a Keras multi-output model use gradient combinations for multiple loss functions?", example 1.

Layers one after another are a single output, whatever their names; heads are branches. From 12 measurements of a
wine, its proline and its cultivar: held out, an R² of 0.588 (linear regression: 0.255; guessing the mean: 0) and an
accuracy of 97.2 % (the most frequent class: 41.7 %).

bash launch/local.sh --config=configs/named_outputs.py
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """A trunk of 64 and 32; `regression_output` and `classification_output`."""
    return ml_collections.ConfigDict(
        {
            "steps": "40 epochs",
            "batch_size": 16,
            "eval_every": "10 epochs",
            "dataset": {
                "name": "wine",
                "options": {"targets": {"proline": {"columns": "proline"}, "cultivar": {"classes": "cultivar"}}},
            },
            "model": {
                "trunk": [
                    {"layer": "Dense", "units": 64, "activation": "relu"},
                    {"layer": "Dense", "units": 32, "activation": "relu"},
                ],
                "heads": {
                    "regression_output": [{"layer": "Dense", "units": 1}],
                    "classification_output": [{"layer": "Dense", "units": 3, "activation": "softmax"}],
                },
            },
            "losses": {
                "proline": {
                    "head": "regression_output",
                    "target": "proline",
                    "loss": "mse",
                    "metrics": ["mae", "r2_score"],
                },
                "cultivar": {
                    "head": "classification_output",
                    "target": "cultivar",
                    "loss": "sparse_categorical_crossentropy",
                    "metrics": ["accuracy"],
                },
            },
            "combine": {"name": "sum"},
        }
    )
