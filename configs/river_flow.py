"""Eight flows of a river two days ahead, from what eight gauges have shown: eight heads, four with missing labels.

The data are simulated, in the form of River Flow 1 (`input_pipelines/datasets/river_flow.py` says how): 5,475 rows to
train on, later ones to validate on and to test. An error of 1 is that of a flow's mean; on the test rows it is 0.11 at
the mouth, `delta`, and 0.78 at a small source, `east_creek`, after eight seconds. The sum of the losses is mostly that
of the sources, which nobody can foresee; `--combine=mgda` has 0.084 at the mouth.

python -m trainer.main --config=configs/river_flow.py
"""

import ml_collections

GAUGES = ("north_fork", "south_fork", "east_creek", "junction", "valley", "confluence", "gorge", "delta")


def _dense(units: int) -> dict:
    return {"layer": "Dense", "units": units, "activation": "relu"}


def get_config() -> ml_collections.ConfigDict:
    """A shared trunk, a small head for each gauge."""
    return ml_collections.ConfigDict(
        {
            "steps": "6 epochs",
            "batch_size": 64,
            "eval_every": "1 epoch",
            "dataset": {"name": "river_flow"},
            "model": {
                "trunk": [_dense(128), _dense(64)],
                "heads": {name: [_dense(16), {"layer": "Dense", "units": 1}] for name in GAUGES},
            },
            "losses": {
                name: {"loss": "mse", "metrics": [{"name": "root_mean_squared_error", "as": "rmse"}]} for name in GAUGES
            },
            "optimizer": {"name": "adam", "learning_rate": {"name": "cosine_decay", "initial_learning_rate": 2e-3}},
            "combine": {"name": "weighted"},
        }
    )
