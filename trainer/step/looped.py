"""The trunk's backward passes of many losses as one loop in the graph, which does not grow with their number.

Each loss goes to the features by itself, as heads differ anyway; from there on all losses take the same way, which is
traced once. Nothing of a loss that is not finite reaches another one.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.common.errors import ConfigError
from trainer.components.loss_sums import LossSums
from trainer.components.losses import NamedLoss
from trainer.gradients import layout
from trainer.gradients.layout import Joined, Layout
from trainer.gradients.reach import Jacobian, Reach
from trainer.models import forward_pass
from trainer.step import backward, cut, head_passes, parts
from trainer.step.cut import CutModel
from trainer.step.head_passes import HeadPasses
from trainer.step.objectives import Objectives

MANY = 32  # losses, from which on a step takes no longer as a loop; its trace and its first call take less
_MAXIMA = (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)


@dataclasses.dataclass(frozen=True)
class Looped:
    """A model whose losses' backward passes are a loop, from the features on.

    Attributes:
      model: the model, cut at its features.
      joined: the gradients that are joined, those of the trunk's variables with one another only.
    """

    model: CutModel
    joined: Joined

    def per_loss_gradients(
        self,
        losses: Sequence[NamedLoss],
        batch: Mapping[str, Any],
        scale: tf.Tensor | None = None,
        batch_size: int | None = None,
        watch: backward.Watch | None = None,
    ) -> tuple[Jacobian, tuple[LossSums, ...]]:
        """Returns what `backward.per_loss_gradients` does, joined; arguments as it has them."""
        passes = head_passes.run(self.model, losses, self.joined.of_variables, batch, scale, batch_size, watch)
        groups = [group for group in self.joined.groups if group[0] in passes.trunk]
        of_trunk = dict(zip(groups, self._through_trunk(passes, groups), strict=True))
        jacobian = (
            of_trunk[group] if group in of_trunk else layout.vectors([passes.columns[v] for v in group])
            for group in self.joined.groups
        )
        return tuple(jacobian), passes.sums

    def _through_trunk(self, passes: HeadPasses, groups: Sequence[tuple[int, ...]]) -> list[tuple[tf.Tensor, ...]]:
        """For each group of the trunk's variables the gradients of every loss, one vector each."""
        variables, count = self.joined.of_variables.variables, len(passes.rows)
        upstream = tf.stack(passes.rows)

        def body(k: tf.Tensor, *arrays: tf.TensorArray) -> tuple[Any, ...]:
            found = head_passes.through_trunk(passes, self.joined.of_variables, upstream[k])
            by_position = dict(zip(passes.trunk, found, strict=True))
            gradients = [layout.vector([by_position[v] for v in group]) for group in groups]
            return k + 1, *(array.write(k, gradient) for array, gradient in zip(arrays, gradients, strict=True))

        arrays = [tf.TensorArray(variables[group[0]].dtype, count, clear_after_read=False) for group in groups]
        # One iteration at a time: of several the memory would add up.
        _, *arrays = tf.while_loop(lambda k, *_: k < count, body, (0, *arrays), parallel_iterations=1)
        return [tuple(array.read(k) for k in range(count)) for array in arrays]


def find(objectives: Objectives, reach: Reach, device: Layout) -> Looped | None:
    """The model for a loop over its losses; None where their passes are taken one by one.

    That is so with few losses; where one of them reads more than outputs, or does not reach all of the trunk that
    another one does; where there are no features, or more numbers of them than variables of the trunk, of which a step
    holds a copy for each loss anyway; where replicas sum within the trunk, which they cannot in a loop; and on devices
    that are slow at what the trunk does in one.
    """
    if objectives.count < MANY or forward_pass.reads_more_than_outputs(objectives.losses):
        return None
    try:
        model = cut.split(objectives.model)
    except ConfigError:
        return None
    trunk = head_passes.positions_in_trunk(model, reach)
    if not trunk or any(len(reach.losses[v]) < objectives.count for v in trunk) or parts.synchronized(model.trunk):
        return None
    if not device.fast_maxima_in_loops and any(isinstance(each, _MAXIMA) for each in model.trunk._flatten_layers()):
        return None
    features = model.trunk.outputs[0].shape[1:]
    held = sum(math.prod(reach.variables[v].shape) for v in trunk)
    if None in features or objectives.batch_size * math.prod(features) > held:
        return None
    return Looped(model, layout.join(reach, apart=trunk))
