"""The bits of tensors as int64, in which they travel and are compared exactly.

Sums of floating-point numbers would flush the smallest ones to zero, and lose the sign of -0.
"""

import tensorflow as tf

_INTEGERS = {1: tf.int8, 2: tf.int16, 4: tf.int32, 8: tf.int64, 16: tf.int64}  # bytes → those of that size, or halves


def as_integers(value: tf.Tensor) -> tf.Tensor:
    """The bits of floating-point and complex numbers, and other numbers and bools themselves, as int64.

    The shape stays, but of complex128 it gets a last axis of two.
    """
    if value.dtype.is_floating or value.dtype.is_complex:
        value = tf.bitcast(value, _INTEGERS[value.dtype.size])
    return tf.cast(value, tf.int64)


def from_integers(value: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """The tensor of `dtype` from which `as_integers` made this one."""
    if not dtype.is_floating and not dtype.is_complex:
        return tf.cast(value, dtype)
    return tf.bitcast(tf.cast(value, _INTEGERS[dtype.size]), dtype)
