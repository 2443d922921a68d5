"""Outputs of different shapes: a softmax of five classes and a 2 x 2 matrix.

"Can a Keras multi-output model use gradient combinations for multiple loss functions?", example 3.

Both heads start from the one input; from inputs of their own they would not be connected. Of a handwritten digit,
which pair it is in and the covariance matrix of its ink's position: held out, an accuracy of 97.5 % (the most
frequent class: 18.3 %) and an absolute error of 0.087 squared pixels (guessing the mean: 0.516).

bash launch/local.sh --config=configs/output_shapes.py
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """A trunk of 64; a Reshape makes four numbers a matrix."""
    return ml_collections.ConfigDict(
        {
            "steps": "80 epochs",
            "batch_size": 32,
            "steps_per_loop": 100,
            "eval_every": "20 epochs",
            "dataset": {"name": "digits", "options": {"targets": ["pair", "moments"]}},
            "model": {
                "trunk": [{"layer": "Flatten"}, {"layer": "Dense", "units": 64, "activation": "relu"}],
                "heads": {
                    "pair": [
                        {"layer": "Dense", "units": 16, "activation": "relu"},
                        {"layer": "Dense", "units": 5, "activation": "softmax"},
                    ],
                    "moments": [{"layer": "Dense", "units": 4}, {"layer": "Reshape", "target_shape": (2, 2)}],
                },
            },
            "losses": {
                "pair": {
                    "head": "pair",
                    "target": "pair",
                    "loss": "sparse_categorical_crossentropy",
                    "metrics": ["accuracy"],
                },
                "moments": {"head": "moments", "target": "moments", "loss": "mse", "metrics": ["mae"]},
            },
        }
    )
