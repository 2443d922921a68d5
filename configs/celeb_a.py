"""CelebA's 40 attributes, a task each, as in Sener and Koltun 2018 (https://arxiv.org/abs/1810.04650).

As there, faces are brought to 64 x 64 pixels and every attribute has a linear head on a shared trunk; theirs is
ResNet-18, here are eight convolutions. The official splits: 162,770 faces to train on, 19,867 to validate on. They are
read while training: held in memory, they would take 9 GB. Losses, heads and targets have the attributes' names, but
for `Five_o_Clock_Shadow` (a name begins with a letter).

A step takes one backward pass of the sum of all losses. A method that looks at gradients needs other ones: with
`reduction=features` those at the trunk's output, which cost about as little.

python -m trainer.main --config=configs/celeb_a.py --download
python -m trainer.main --config=configs/celeb_a.py --combine=mgda --reduction=features
"""

import ml_collections

ATTRIBUTES = (
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose"),
    *("Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses"),
    *("Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache"),
    *("Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks"),
    *("Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick"),
    *("Wearing_Necklace", "Wearing_Necktie", "Young"),
)
# Loss, head and target → the attribute in TFDS's words.
TASKS = {attribute.replace("5_", "Five_"): attribute for attribute in ATTRIBUTES}
SIDE = 64


def _adam() -> dict:
    rate = {"name": "cosine_decay", "initial_learning_rate": 0.0, "warmup_target": 1e-3, "warmup_steps": "1 epoch"}
    return {"name": "adam", "learning_rate": rate}


def _stage(filters: int) -> list[dict]:
    """Two convolutions, the second of which halves height and width."""
    return [
        layer
        for strides in (1, 2)
        for layer in (
            {"layer": "Conv2D", "filters": filters, "kernel_size": 3, "strides": strides, "padding": "same"},
            {"layer": "BatchNormalization", "synchronized": True},
            {"layer": "ReLU"},
        )
    ]


def get_config() -> ml_collections.ConfigDict:
    """A convolutional trunk and 40 linear heads."""
    return ml_collections.ConfigDict(
        {
            "steps": "15 epochs",
            "batch_size": 256,
            "eval_every": "1 epoch",
            "dataset": {
                "name": "tfds/celeb_a",
                "feed": "streaming",
                "splits": {"train": "train", "validation": "validation"},
                "inputs": {"image": {"prepare": [{"name": "resize", "height": SIDE, "width": SIDE}, "scale"]}},
                "targets": {task: {"feature": f"attributes/{attribute}"} for task, attribute in TASKS.items()},
                "augment": ["flip"],
            },
            "model": {
                "trunk": [
                    *(layer for filters in (32, 64, 128, 256) for layer in _stage(filters)),
                    {"layer": "GlobalAveragePooling2D"},
                ],
                "heads": {task: [{"layer": "Dense", "units": 1}] for task in TASKS},
            },
            "losses": {
                task: {
                    "head": task,
                    "target": task,
                    "loss": {"name": "binary_crossentropy", "from_logits": True},
                    # Heads give logits, which are above 0 where the probability is above one half.
                    "metrics": [{"name": "binary_accuracy", "threshold": 0.0}],
                }
                for task in TASKS
            },
            "optimizer": _adam(),
            "combine": {"name": "weighted"},
        }
    )
