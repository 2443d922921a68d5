"""Three linear heads with weighted losses: 1, 0.5 and 0.2 times squared, absolute and Huber error.

"How can I optimize multiple outputs with varying linear transformations using TF Adam?", example 2.

The heads of `linear_heads` and one more. Heads that share nothing do not compete, and Adam undoes a constant factor,
so here the weights change next to nothing: R² 0.866, 0.725 and 0.757, the first two as without weights. Weights
matter where heads share variables.

bash launch/local.sh --config=configs/weighted_linear_heads.py
"""

import ml_collections

from configs import linear_heads


def get_config() -> ml_collections.ConfigDict:
    """The two heads of `linear_heads`, weighted, and a third of size 2."""
    config = linear_heads.get_config()
    columns = ["worst texture", "worst fractal dimension"]
    config.dataset.options.targets.texture = {"columns": columns}
    config.model.heads.texture = [{"layer": "Dense", "units": len(columns)}]
    config.losses.geometry.weight = 1.0
    config.losses.concavity.weight = 0.5
    config.losses.texture = {
        "head": "texture",
        "target": "texture",
        "loss": "huber",
        "weight": 0.2,
        "metrics": ["r2_score"],
    }
    return config
