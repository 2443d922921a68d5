"""Two regression heads of sizes 3 and 2 with weights 0.7 and 0.3.

"Can a Keras multi-output model use gradient combinations for multiple loss functions?", example 2.

From age, sex, body mass and three serum measurements of diabetes patients, three more of the serum, and blood
pressure with the disease's progression. Held out, R² 0.500 and 0.466 (linear regression: 0.491 and 0.466; guessing
the mean: 0).

bash launch/local.sh --config=configs/two_regressions.py
"""

import ml_collections

TARGETS = {"serum": (["s1", "s2", "s3"], 0.7), "course": (["bp", "progression"], 0.3)}


def get_config() -> ml_collections.ConfigDict:
    """A trunk of 64 and 32 and squared errors."""
    return ml_collections.ConfigDict(
        {
            "steps": "30 epochs",
            "batch_size": 32,
            "eval_every": "10 epochs",
            "dataset": {
                "name": "diabetes",
                "options": {"targets": {name: {"columns": columns} for name, (columns, _) in TARGETS.items()}},
            },
            "model": {
                "trunk": [
                    {"layer": "Dense", "units": 64, "activation": "relu"},
                    {"layer": "Dense", "units": 32, "activation": "relu"},
                ],
                "heads": {name: [{"layer": "Dense", "units": len(columns)}] for name, (columns, _) in TARGETS.items()},
            },
            "losses": {
                name: {"head": name, "target": name, "loss": "mse", "weight": weight, "metrics": ["mae", "r2_score"]}
                for name, (_, weight) in TARGETS.items()
            },
        }
    )
