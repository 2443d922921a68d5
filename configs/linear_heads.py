"""Two linear heads straight on the input: nothing is shared, each has a loss and an Adam of its own.

"How can I optimize multiple outputs with varying linear transformations using TF Adam?", example 1.

From the means of ten measurements of a tumour, a vector of five and a vector of three of the worst measurements. Held
out, R² comes to 0.866 and 0.725, near the closed-form linear regression's 0.869 and 0.741 (guessing the mean: 0).

bash launch/local.sh --config=configs/linear_heads.py
"""

import ml_collections

TARGETS = {
    "geometry": ["worst radius", "worst perimeter", "worst area", "worst smoothness", "worst compactness"],
    "concavity": ["worst concavity", "worst concave points", "worst symmetry"],
}


def get_config() -> ml_collections.ConfigDict:
    """No trunk; heads of sizes 5 and 3; mean squared and mean absolute error."""
    return ml_collections.ConfigDict(
        {
            "steps": "400 epochs",
            "batch_size": 32,
            "steps_per_loop": 200,
            "report_every": "50 epochs",
            "eval_every": "50 epochs",
            "dataset": {
                "name": "breast_cancer",
                "options": {
                    "inputs": "mean *",
                    "targets": {name: {"columns": columns} for name, columns in TARGETS.items()},
                },
            },
            "model": {
                "heads": {name: [{"layer": "Dense", "units": len(columns)}] for name, columns in TARGETS.items()},
            },
            "losses": {
                "geometry": {
                    "head": "geometry",
                    "target": "geometry",
                    "loss": "mse",
                    "metrics": ["r2_score"],
                },
                "concavity": {
                    "head": "concavity",
                    "target": "concavity",
                    "loss": "mae",
                    "metrics": ["r2_score"],
                },
            },
            "optimizer": {"name": "adam", "learning_rate": 1e-3},
        }
    )
