"""Two-stage fine-tuning, the second stage: everything learns, the backbone at a tenth of the heads' rate.

It begins where the run of `configs/fine_tuning.py` has ended, and takes smaller steps once a loss stops falling.

python -m trainer.main --config=configs/fine_tuning_everything.py --workdir=runs/everything
"""

import ml_collections

from configs import fine_tuning


def get_config() -> ml_collections.ConfigDict:
    """The model of the first stage, none of it frozen."""
    config = fine_tuning.get_config()
    config.init_from = {"path": "runs/heads"}
    config.freeze = []
    config.learning_rate_factors = {"backbone/*": 0.1}
    config.reduce_on_plateau = {"metric": "loss/digit", "factor": 0.5, "patience": 1}
    return config
