"""The rows of all replicas, on every replica: each writes its own into a buffer of zeros, and the buffers are summed.

One collective for each dtype, whatever the number of tensors. TensorFlow's `all_gather` takes two for each tensor and
more in the backward pass, and its gradient sums over replicas: a loss that every replica computes of all rows would
count once per replica. Here the gradient of the gathered rows is that of a replica's own rows, without a collective.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import tensorflow as tf

Key = TypeVar("Key")


class Share(NamedTuple):
    """A replica's rows among those of all replicas, which follow one another in the order of the replicas.

    Attributes:
      first: its first row.
      count: how many it has.
      total: rows of all replicas; an int where it is known while tracing.
      size: rows of the buffer, at least `total`: a collective takes one shape only, in whatever step.
    """

    first: tf.Tensor
    count: tf.Tensor
    total: tf.Tensor | int
    size: int

    def mask(self, dtype: tf.DType) -> tf.Tensor:
        """(total,), 1 for this replica's rows, 0 for those of others."""
        row = tf.range(self.total)
        return tf.cast((row >= self.first) & (row < self.first + self.count), dtype)


def first_row(size: int | tf.Tensor) -> tf.Tensor:
    """Returns the first row of this replica in a batch of `size` examples, an int64; call it in replica context.

    Shares are contiguous and differ by one example at most: `input_pipelines.feed.splits.ends` cuts batches like this.
    """
    context = tf.distribute.get_replica_context()
    return tf.cast(context.replica_id_in_sync_group, tf.int64) * size // context.num_replicas_in_sync


def share(rows: tf.Tensor, batch_size: int, *, partial: bool = False) -> Share:
    """Returns this replica's share; call it in replica context.

    Args:
      rows: a tensor of its rows.
      batch_size: rows of all replicas, shared out as `first_row` says.
      partial: there may be fewer, shared out in another way: they are counted, in a collective of their own.
    """
    count = tf.shape(rows)[0]
    if not partial:
        return Share(tf.cast(first_row(batch_size), tf.int32), count, batch_size, batch_size)
    first, total = _place(count)
    return Share(first, count, total, batch_size)


def counted_first_row(count: tf.Tensor) -> tf.Tensor:
    """Returns the first row of this replica, which has `count` rows, an int32; call it in replica context.

    However rows are shared out: they are counted, in a collective of their own.
    """
    return _place(count)[0]


def _place(count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The first row of a replica with `count` rows, and the number of rows of all replicas."""
    context = tf.distribute.get_replica_context()
    places = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync, dtype=tf.int64)
    counts = tf.cast(summed(places * tf.cast(count, tf.int64)), tf.int32)
    return tf.cumsum(counts, exclusive=True)[context.replica_id_in_sync_group], tf.reduce_sum(counts)


def travels_as(dtype: tf.DType) -> tf.DType:
    """The dtype in which values are gathered; NCCL sums neither small integers nor bools."""
    if dtype.is_floating:
        return tf.float32 if dtype.size < 4 else dtype
    return tf.int64 if dtype.is_integer or dtype.is_bool else dtype


def gathered(tensors: Mapping[Key, tf.Tensor], own: Share) -> dict[Key, tf.Tensor]:
    """The rows of all replicas of each of these tensors, in order; call it in replica context.

    Args:
      tensors: this replica's rows; all but their number must be the same on every replica, and known while tracing.
      own: this replica's share.

    Returns:
      The rows, whose gradient is the slice of this replica's.
    """
    found: dict[Key, tf.Tensor] = {}
    for dtype in dict.fromkeys(travels_as(tensor.dtype) for tensor in tensors.values()):
        group = {key: tensor for key, tensor in tensors.items() if travels_as(tensor.dtype) == dtype}
        for (key, tensor), rows in zip(group.items(), _of_one_dtype(list(group.values()), dtype, own), strict=True):
            found[key] = _with_own_gradient(tensor, tf.cast(rows, tensor.dtype), own)
    return {key: found[key] for key in tensors}


def _of_one_dtype(tensors: Sequence[tf.Tensor], dtype: tf.DType, own: Share) -> list[tf.Tensor]:
    """The rows of all replicas of tensors that travel together."""
    after = own.size - own.first - own.count
    width = [tensor.shape[1:].num_elements() for tensor in tensors]
    flat = []
    for tensor in tensors:
        rows = tf.cast(tf.stop_gradient(tensor), dtype)
        buffer = tf.pad(rows, [[own.first, after], *[[0, 0]] * (tensor.shape.rank - 1)])
        flat.append(tf.reshape(buffer, [own.size, tensor.shape[1:].num_elements()]))
    rows = summed(tf.concat(flat, axis=1))
    pieces = tf.split(rows[: own.total], width, axis=1)
    return [tf.reshape(piece, [own.total, *tensor.shape[1:]]) for piece, tensor in zip(pieces, tensors, strict=True)]


def _with_own_gradient(tensor: tf.Tensor, rows: tf.Tensor, own: Share) -> tf.Tensor:
    @tf.custom_gradient
    def of_all(own_rows: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, object]:
        def backward(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
            dense = tf.convert_to_tensor(upstream)  # of a `tf.gather` it is an IndexedSlices
            return tf.ensure_shape(dense[own.first : own.first + own.count], own_rows.shape), None

        return tf.identity(rows), backward

    return of_all(tensor, rows) if tensor.dtype.is_floating else rows


def summed(value: tf.Tensor) -> tf.Tensor:
    """Returns the sum over all replicas; call it in replica context."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)
