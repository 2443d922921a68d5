"""Income and marital status of the Census-Income data, the two tasks of the MMoE paper's first group.

Ma et al. 2018, https://dl.acm.org/doi/10.1145/3219819.3220007: does a person earn more than 50,000 dollars a year, and
did that person never marry, from 199,523 answers to the US census surveys of 1994 and 1995 (KDD,
https://archive.ics.uci.edu/dataset/117). The folder holds train.csv.gz and test.csv.gz, with a header. On the 99,762
rows of test.csv.gz AUCs of 0.949 and 0.9947 after 4 epochs (the paper's best: 0.9410 and 0.9933).

python -m trainer.main --config=configs/census_income.py --config.dataset.path=FOLDER
"""

import ml_collections

NUMBERS = ["age", "num_emp", "weeks_worked"]
MONEY = ["wage_per_hour", "capital_gains", "capital_losses", "stock_dividends"]
# Codes and years are names, not quantities. `instance_weight` says how many people a row stands for.
CATEGORIES = [
    "class_of_worker",
    "det_ind_code",
    "det_occ_code",
    "education",
    "hs_college",
    "major_ind_code",
    "major_occ_code",
    "race",
    "hisp_origin",
    "sex",
    "union_member",
    "unemp_reason",
    "full_or_part_emp",
    "tax_filer_stat",
    "region_prev_res",
    "state_prev_res",
    "det_hh_fam_stat",
    "det_hh_summ",
    "mig_chg_msa",
    "mig_chg_reg",
    "mig_move_reg",
    "mig_same",
    "mig_prev_sunbelt",
    "fam_under_18",
    "country_father",
    "country_mother",
    "country_self",
    "citizenship",
    "own_or_self",
    "vet_question",
    "vet_benefits",
    "year",
]
_ADAM = {"name": "adam", "learning_rate": {"name": "cosine_decay", "initial_learning_rate": 2e-3}}
_HEAD = [{"layer": "Dense", "units": 32, "activation": "relu"}, {"layer": "Dense", "units": 1}]


def _yes_or_no(name: str) -> dict:
    return {
        "head": name,
        "target": name,
        "loss": {"name": "binary_crossentropy", "from_logits": True},
        # Most predictions lie close to 0 or 1, where Keras' 200 thresholds are too coarse.
        "metrics": [{"name": "AUC", "as": "auc", "num_thresholds": 10_000, "from_logits": True}],
    }


def get_config() -> ml_collections.ConfigDict:
    """Numbers and embedded categories, a shared trunk, two heads."""
    return ml_collections.ConfigDict(
        {
            "steps": "4 epochs",
            "batch_size": 512,
            "eval_every": "1 epoch",
            "dataset": {
                "name": "csv",
                "splits": {"train": "train.csv.gz", "validation": "test.csv.gz"},
                "inputs": {
                    "numbers": {"feature": NUMBERS, "prepare": ["standardise"]},
                    "money": {"feature": MONEY, "prepare": ["log", "standardise"]},
                    "categories": {"feature": CATEGORIES, "prepare": ["categories"]},
                },
                "targets": {
                    "income": {"feature": "income_50k", "prepare": [{"name": "equals", "values": ["50000+."]}]},
                    "marital_status": {
                        "feature": "marital_stat",
                        "prepare": [{"name": "equals", "values": ["Never married"]}],
                    },
                },
            },
            "model": {
                "trunk": [{"layer": "Dense", "units": 128, "activation": "relu"}],
                "heads": {"income": _HEAD, "marital_status": _HEAD},
                "embedding_units": 8,
            },
            "losses": {"income": _yes_or_no("income"), "marital_status": _yes_or_no("marital_status")},
            "optimizer": _ADAM,
            "combine": {"name": "weighted"},
        }
    )
