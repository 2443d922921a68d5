"""The layout of gradients in memory while they are combined: what suits a kind of device.

A GPU takes longer to start a small operation than to do it, and TensorFlow starts one for each gradient of each
variable. There the shared variables' gradients of a loss are joined in one vector for each set of losses; a CPU would
only copy them once more. Reshaped gradients are let go as they are joined, so that it takes the memory of one more.
"""

import dataclasses
from collections.abc import Container, Sequence

import tensorflow as tf

from trainer.gradients.reach import Jacobian, Reach


@dataclasses.dataclass(frozen=True)
class Layout:
    """The choices that suit a kind of device.

    Attributes:
      joined: whether gradients of several variables are joined, where a method does not tell variables apart.
      piece: numbers of all losses' gradients that are copied to float64 together.
      passes_at_once: backward passes that a replica takes at the same time where they are not a loop.
      fast_maxima_in_loops: whether a gradient of pooling by maxima takes no longer in a loop than outside of it.
    """

    joined: bool
    piece: int
    passes_at_once: int
    fast_maxima_in_loops: bool


# Of two passes one uses the cores that the other leaves idle; on a GPU they would only take more memory. A piece stays
# in a processor's cache. In a loop TensorFlow does not take oneDNN's pooling, which is eight times as fast.
CPU = Layout(joined=False, piece=2**19, passes_at_once=2, fast_maxima_in_loops=False)
GPU = Layout(joined=True, piece=2**25, passes_at_once=1, fast_maxima_in_loops=True)  # 256 MB of copies


@dataclasses.dataclass(frozen=True)
class Joined:
    """The gradients of several variables, joined in one vector for each loss that reaches them.

    Attributes:
      of_variables: which losses reach which variable.
      groups: positions of variables that the same losses reach, of one dtype; each position is in one group.
    """

    of_variables: Reach
    groups: tuple[tuple[int, ...], ...]

    @property
    def reach(self) -> Reach:
        """The losses that reach each group, whose variable and name are those of its first variable."""
        first = [group[0] for group in self.groups]
        whole = self.of_variables
        kept = {name: tuple(getattr(whole, name)[v] for v in first) for name in ("variables", "losses", "names")}
        return dataclasses.replace(whole, **kept)

    def joined(self, jacobian: Jacobian) -> Jacobian:
        """For each group one vector of every loss; the gradients as they are where it has one variable."""
        return tuple(vectors([jacobian[v] for v in group]) for group in self.groups)

    def separate(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """A gradient for each variable, of its shape, from one for each group."""
        found: dict[int, tf.Tensor] = {}
        for group, gradient in zip(self.groups, gradients, strict=True):
            if len(group) == 1:
                found[group[0]] = gradient
                continue
            shapes = [tf.TensorShape(self.of_variables.variables[v].shape) for v in group]
            parts = tf.split(tf.reshape(gradient, [-1]), [shape.num_elements() for shape in shapes])
            found |= {v: tf.reshape(part, shape) for v, part, shape in zip(group, parts, shapes, strict=True)}
        return [found[v] for v in range(len(found))]


def join(reach: Reach, apart: Container[int] = ()) -> Joined:
    """Joins shared variables of the same losses and dtype; every other variable stays by itself.

    Args:
      reach: which losses reach which variable.
      apart: positions of variables that are joined with one another only.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for v, (variable, by) in enumerate(zip(reach.variables, reach.losses, strict=True)):
        groups.setdefault((by, variable.dtype, v in apart) if len(by) > 1 else (v,), []).append(v)
    return Joined(reach, tuple(map(tuple, groups.values())))


def vectors(gradients: Sequence[Sequence[tf.Tensor]]) -> tuple[tf.Tensor, ...]:
    """For each loss `vector` of its gradients of several variables, which come by variable."""
    return tuple(map(vector, zip(*gradients, strict=True)))


def vector(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """One loss's gradients of several variables one after another; of one variable as it is."""
    if len(gradients) == 1:
        return gradients[0]
    return tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], axis=0)
