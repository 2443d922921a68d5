"""Every output validated on its own: losses and metrics of each, beside the training losses.

"How can I optimize multiple outputs with varying linear transformations using TF Adam?", example 3.

`linear_heads` with a report and a validation every ten epochs: `metrics.jsonl`, TensorBoard and `curves.png` hold the
losses and metrics of each output. At the end, held out: R² 0.866 and 0.725, absolute error 0.269 and 0.362, as
`linear_heads`.

bash launch/local.sh --config=configs/validation_per_output.py
"""

import ml_collections

from configs import linear_heads


def get_config() -> ml_collections.ConfigDict:
    """`linear_heads` with more metrics, more often."""
    config = linear_heads.get_config()
    config.report_every = config.eval_every = "10 epochs"
    for loss in config.losses.values():
        loss.metrics = ["r2_score", "mae", "mse"]
    return config
