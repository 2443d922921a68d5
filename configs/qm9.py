"""QM9 (https://doi.org/10.1038/sdata.2014.22): eleven properties of small molecules, from what atoms are where.

The tasks of Nash-MTL's comparison (https://arxiv.org/abs/2202.01017): dipole moment, polarisability, energies of the
highest occupied and lowest unoccupied orbital, spatial extent, zero-point energy, four atomisation energies and heat
capacity; DimeNet's split, 110,000 molecules to train on and 10,000 to validate on. The model is simpler than theirs:
the sorted Coulomb matrix, of fixed size whatever the number of atoms, and a dense network, in the spirit of Montavon et
al. 2013 (https://arxiv.org/abs/1305.7074).

Every property is standardised, so an `mae` counts in standard deviations of the training split; they stand, with the
means, in the run's file of data. TFDS needs pandas for this dataset: pip install -e '.[qm9]'.

python -m trainer.main --config=configs/qm9.py --download
"""

import ml_collections

ATOMS = 29  # of the largest molecule; the others are filled up with atoms of charge 0
PROPERTIES = (
    *("mu", "alpha", "homo", "lumo", "r2", "zpve"),
    *("U0_atomization", "U_atomization", "H_atomization", "G_atomization", "Cv"),
)


def _adam() -> dict:
    rate = {"name": "cosine_decay", "initial_learning_rate": 0.0, "warmup_target": 1e-3, "warmup_steps": "2 epochs"}
    return {"name": "adam", "learning_rate": rate}


def get_config() -> ml_collections.ConfigDict:
    """Coulomb matrices, a dense trunk and a head for each property."""
    return ml_collections.ConfigDict(
        {
            "steps": "100 epochs",
            "batch_size": 256,
            "eval_every": "10 epochs",
            "dataset": {
                "name": "tfds/qm9/dimenet",
                "splits": {"train": "train", "validation": "validation"},
                "inputs": {
                    "charges": {"prepare": [{"name": "scale", "by": 1}]},
                    "positions": {"prepare": [{"name": "reshape", "shape": [3 * ATOMS]}]},
                },
                "targets": {name: {"prepare": ["standardise"]} for name in PROPERTIES},
            },
            "model": {
                "trunk": [
                    {"layer": "trainer.models.coulomb:CoulombMatrix", "atoms": ATOMS},
                    {"layer": "BatchNormalization", "synchronized": True},
                    *({"layer": "Dense", "units": 512, "activation": "silu"} for _ in range(3)),
                ],
                "heads": {
                    name: [{"layer": "Dense", "units": 64, "activation": "silu"}, {"layer": "Dense", "units": 1}]
                    for name in PROPERTIES
                },
            },
            "losses": {
                name: {
                    "head": name,
                    "target": name,
                    "loss": "mse",
                    "metrics": ["mae"],
                }
                for name in PROPERTIES
            },
            "optimizer": _adam(),
            "combine": {"name": "weighted"},
        }
    )
