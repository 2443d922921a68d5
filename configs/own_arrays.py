"""Arrays that your own code makes, and all that a head and a loss can have: copy this file and change it.

Two facts about a wine from its chemistry: which of three cultivars it is of, and how much alcohol it has, which is not
known of a third of the bottles. Held out, the cultivar is right in 97 %, and R² of the alcohol comes to 0.46.

python -m trainer.main --config=configs/own_arrays.py --workdir=runs/wine
"""

import ml_collections
import numpy as np
from sklearn.datasets import load_wine

from input_pipelines.examples import Examples


def load() -> dict[str, Examples]:
    """Training and validation examples; the label of a third of the alcohol is missing."""
    features, cultivar = load_wine(return_X_y=True)
    measured = np.arange(len(features)) % 3 > 0
    order = np.random.RandomState(0).permutation(len(features))
    known = features[order[:142]]  # nothing may be learned from the examples that are held out
    features = (features - known.mean(0)) / known.std(0)

    def split(rows: np.ndarray) -> Examples:
        return Examples(
            inputs=features[rows, 1:],
            targets={"cultivar": cultivar[rows], "alcohol": features[rows, 0]},
            weights={"alcohol": measured[rows].astype("float32")},
        )

    return {"train": split(order[:142]), "validation": split(order[142:])}


def get_config() -> ml_collections.ConfigDict:
    """Two heads on one trunk, a loss for each, and an optimizer of its own for one."""
    rate = {"name": "cosine_decay", "initial_learning_rate": 0.0, "warmup_target": 3e-3, "warmup_steps": "2 epochs"}
    return ml_collections.ConfigDict(
        {
            "steps": "60 epochs",  # durations are in steps, epochs or examples
            "batch_size": 32,
            "eval_every": "10 epochs",
            "clip_norm": 5.0,
            "dataset": {"name": "configs.own_arrays:load"},  # in a copy: my_file:load
            "model": {
                "trunk": [{"layer": "Dense", "units": 32, "activation": "relu"}],  # any Keras layers
                "heads": {
                    "cultivar": [{"layer": "Dense", "units": 3}],  # straight on the trunk
                    "alcohol": [{"layer": "Dense", "units": 8, "activation": "relu"}, {"layer": "Dense", "units": 1}],
                },
            },
            "losses": {
                "cultivar": {
                    "head": "cultivar",
                    "target": "cultivar",
                    "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True},
                    "metrics": ["accuracy"],
                },
                "alcohol": {
                    "head": "alcohol",
                    "target": "alcohol",
                    "loss": {"name": "huber", "delta": 2.0},
                    "weight": 0.5,
                    "metrics": ["mae", "r2_score"],
                    "optimizer": {"name": "rmsprop", "learning_rate": 1e-3},
                },
            },
            "optimizer": {"name": "adam", "learning_rate": rate},  # of all but the head above that has its own
            "combine": {"name": "pcgrad", "use_weights": True},
        }
    )
