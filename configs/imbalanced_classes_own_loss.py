"""A loss of one's own, by import path, for an imbalanced class.

"How can TensorFlow models be trained with multiple outputs?", example 3.

`imbalanced_classes` with the loss as a function in this file. It uses TensorFlow's operations throughout, not
NumPy's, and returns one value per example, not their mean. The results are those of `imbalanced_classes`.

bash launch/local.sh --config=configs/imbalanced_classes_own_loss.py
"""

from collections.abc import Sequence

import keras
import ml_collections
import tensorflow as tf

from configs import imbalanced_classes


def weighted_binary_crossentropy(
    target: tf.Tensor, prediction: tf.Tensor, class_weights: Sequence[float] = (0.1, 0.9)
) -> tf.Tensor:
    """Binary cross-entropy of one probability, times the weight of the example's class."""
    classes = tf.cast(target[:, 0], tf.int32)
    weights = tf.gather(tf.constant(class_weights, prediction.dtype), classes)
    return weights * keras.losses.binary_crossentropy(target, prediction)


def get_config() -> ml_collections.ConfigDict:
    """`imbalanced_classes` with the function above."""
    config = imbalanced_classes.get_config()
    config.losses.eight.loss = {
        "name": "configs.imbalanced_classes_own_loss:weighted_binary_crossentropy",
        "class_weights": [0.1, 0.9],
    }
    return config
