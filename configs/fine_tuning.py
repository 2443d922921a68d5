"""Two-stage fine-tuning, the first stage: two heads learn on a trained backbone that stays as it is.

The backbone is a MobileNet of keras.applications with weights from a file; `configs/fine_tuning_everything.py` is the
second stage. `save_backbone` makes such a file without a download: from handwritten digits 0 to 4, where the heads
learn 5 to 9 and the amount of ink from 100 labelled pictures.

python -c "from configs import fine_tuning; fine_tuning.save_backbone('backbone.weights.h5')"
python -m trainer.main --config=configs/fine_tuning.py --workdir=runs/heads
"""

import keras
import ml_collections
import numpy as np
from sklearn import datasets

from input_pipelines.examples import Examples

SIZE, KNOWN, TRAINED_ON = 32, 5, 100


def backbone() -> keras.Model:
    """The first layers of a small MobileNet, from pictures of 32 x 32 to 4 x 4 x 64, without trained weights."""
    whole = keras.applications.MobileNet((SIZE, SIZE, 3), 0.25, include_top=False, weights=None)
    for layer in whole.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # so that its moving statistics follow a short training
    return keras.Model(whole.input, whole.get_layer("conv_pw_5_relu").output, name="backbone")


def save_backbone(path: str, epochs: int = 12) -> None:
    """Trains the backbone with Keras on the digits 0 to 4, and saves its weights to a file `.weights.h5`."""
    pictures, digits = _digits()
    known = digits < KNOWN
    keras.utils.set_random_seed(0)
    inputs, features, trunk = _pictures_to_features()
    model = keras.Model(inputs, keras.layers.Dense(KNOWN)(keras.layers.Flatten()(features)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    model.fit(pictures[known], digits[known], batch_size=64, epochs=epochs, verbose=2)
    trunk.save_weights(path)


def load() -> dict[str, Examples]:
    """The digits 5 to 9 as classes 0 to 4, with their mean ink; 100 to learn from, all others to validate on."""
    pictures, digits = _digits()
    order = np.random.RandomState(0).permutation(np.flatnonzero(digits >= KNOWN))
    splits = {"train": order[:TRAINED_ON], "validation": order[TRAINED_ON:]}
    return {
        name: Examples(
            pictures[rows], {"digit": digits[rows] - KNOWN, "ink": pictures[rows].mean(axis=(1, 2)).astype(np.float32)}
        )
        for name, rows in splits.items()
    }


def build() -> keras.Model:
    """The backbone below two heads: which digit by all of its numbers, how much ink by their means over the picture."""
    inputs, features, _ = _pictures_to_features()
    digit = keras.layers.Dense(KNOWN, name="digit")(keras.layers.Flatten()(features))
    ink = keras.layers.Dense(1, name="ink")(keras.layers.GlobalAveragePooling2D()(features))
    return keras.Model(inputs, {"digit": digit, "ink": ink})


def get_config() -> ml_collections.ConfigDict:
    """Heads alone learn; the backbone's variables are those of the file."""
    return ml_collections.ConfigDict(
        {
            "steps": 300,
            "batch_size": 25,
            "eval_every": 100,
            "dataset": {"name": "configs.fine_tuning:load"},
            "model": {"name": "configs.fine_tuning:build"},
            "init_from": {"path": "backbone.weights.h5", "rename": {"*": "backbone/*"}, "only": ["backbone/*"]},
            "freeze": ["backbone/*"],
            "losses": {
                "digit": {
                    "loss": {"name": "sparse_categorical_crossentropy", "from_logits": True},
                    "metrics": ["accuracy"],
                },
                "ink": {"loss": "mse", "weight": 10.0, "metrics": ["mae"]},
            },
            "optimizer": {"name": "adam", "learning_rate": 3e-3},
        }
    )


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: pictures of 8 x 8 with one channel, from 0 to 1, and which digit each is."""
    found = datasets.load_digits()
    return (found.images[..., None] / 16).astype(np.float32), found.target


def _pictures_to_features() -> tuple[keras.KerasTensor, keras.KerasTensor, keras.Model]:
    """An input for pictures, what a backbone makes of it, and the backbone."""
    inputs = keras.Input((8, 8, 1), name="picture")
    larger = keras.layers.Resizing(SIZE, SIZE)(inputs)
    coloured = keras.layers.Concatenate()([keras.layers.Rescaling(2.0, -1.0)(larger)] * 3)  # as MobileNet takes them
    trunk = backbone()
    return inputs, trunk(coloured), trunk
