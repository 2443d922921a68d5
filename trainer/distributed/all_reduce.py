"""The cross-replica sums of a step."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Reduction:
    """The sum of a step's values over all replicas: in which dtype and in how large packs gradients travel.

    Attributes:
      dtype: that of gradients while they travel; None: their own. Everything else keeps its own.
      bytes_per_pack: gradients are summed in packs of about this size, so that on GPUs the first ones travel while the
        backward pass continues; 0: all of one dtype in one.
    """

    dtype: tf.DType | None = None
    bytes_per_pack: int = 0

    def sum(self, gradients: Sequence[Sequence[tf.Tensor]], numbers: Any) -> tuple[tuple[tuple, ...], Any]:
        """Sums gradients and other numbers across replicas; call it in replica context.

        Args:
          gradients: for every variable one or more dense gradients, of the same shapes on every replica.
          numbers: a structure of small tensors.

        Returns:
          The same structures with the sums, on every replica.
        """
        places = [(i, v) for v, own in enumerate(gradients) for i in range(len(own))]
        # TensorFlow packs from the end of the list on. There stands what is known first: the numbers, then the first
        # loss's gradients, of these the last variable's.
        places.sort(key=lambda place: (-place[0], place[1]))
        flat = [gradients[v][i] for i, v in places]
        sent = flat if self.dtype is None else [tf.cast(gradient, self.dtype) for gradient in flat]
        with tf.name_scope("reduce"):
            summed = self._sum_by_dtype([*sent, *tf.nest.flatten(numbers)])
        back = {
            place: tf.cast(gradient, original.dtype)
            for place, gradient, original in zip(places, summed, flat, strict=False)
        }
        ordered = tuple(tuple(back[i, v] for i in range(len(own))) for v, own in enumerate(gradients))
        return ordered, tf.nest.pack_sequence_as(numbers, summed[len(flat) :])

    def _sum_by_dtype(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            return list(values)
        values = [tf.identity(value) for value in values]  # on this replica's device, also what comes out of a loop
        options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=self.bytes_per_pack)
        reduced = list(values)
        for dtype in dict.fromkeys(value.dtype for value in values):  # a collective cannot pack several dtypes
            positions = [i for i, value in enumerate(values) if value.dtype == dtype]
            sums = context.all_reduce(tf.distribute.ReduceOp.SUM, [values[i] for i in positions], options=options)
            for i, value in zip(positions, sums, strict=True):
                reduced[i] = value
        return reduced
