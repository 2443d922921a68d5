"""The number of examples of a replica, where the size of batches varies: then it stands beside them in the batch.

A batch is `inputs`, `targets` and perhaps `weights`, by name. Where its size varies it also holds `EXAMPLES`, and
`EMPTY` where a part may hold no example, and one of zeros stands in for it, whose results must not count.
"""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

EXAMPLES = "examples"  # scalar int32: how many examples there are
EMPTY = "empty"  # scalar bool: there is none


def rows(batch: Mapping[str, Any]) -> tf.Tensor:
    """Scalar int32, the number of rows in a batch, a stand-in for none among them."""
    first = tf.nest.flatten(batch["inputs"])[0]
    count = first.nrows() if isinstance(first, tf.RaggedTensor) else keras.ops.shape(first)[0]
    return tf.cast(count, tf.int32)
