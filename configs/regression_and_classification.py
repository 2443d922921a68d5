"""A shared trunk with a regression head and a softmax classification head, weighted 0.5 each.

"How can TensorFlow models be trained with multiple outputs?", example 1.

From the means of ten measurements of a tumour, its worst area (standardised) and whether it is malignant. Held out,
an absolute error of 0.210 (guessing the mean: 0.880) and an accuracy of 99.1 % (the more frequent class: 61.4 %).

bash launch/local.sh --config=configs/regression_and_classification.py
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """A trunk of 64 and 32, squared error and cross-entropy, one Adam."""
    return ml_collections.ConfigDict(
        {
            "steps": "40 epochs",
            "batch_size": 32,
            "eval_every": "10 epochs",
            "dataset": {
                "name": "breast_cancer",
                "options": {
                    "inputs": "mean *",
                    "targets": {"area": {"columns": "worst area"}, "diagnosis": {"classes": "diagnosis"}},
                },
            },
            "model": {
                "trunk": [
                    {"layer": "Dense", "units": 64, "activation": "relu"},
                    {"layer": "Dense", "units": 32, "activation": "relu"},
                ],
                "heads": {
                    "area": [{"layer": "Dense", "units": 1}],
                    "diagnosis": [{"layer": "Dense", "units": 2, "activation": "softmax"}],
                },
            },
            "losses": {
                "area": {"head": "area", "target": "area", "loss": "mse", "weight": 0.5, "metrics": ["mae", "mse"]},
                "diagnosis": {
                    "head": "diagnosis",
                    "target": "diagnosis",
                    "loss": "sparse_categorical_crossentropy",
                    "weight": 0.5,
                    "metrics": ["accuracy"],
                },
            },
        }
    )
