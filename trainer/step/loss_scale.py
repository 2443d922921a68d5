"""Dynamic loss scaling for float16: one scale for all losses. https://arxiv.org/abs/1710.03740"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import tensorflow as tf

INITIAL = 2.0**15
_LARGEST = 2.0**24
_DOUBLED_AFTER = 2000  # steps, as Keras' LossScaleOptimizer has it


class LossScale(NamedTuple):
    """The factor of the losses in their backward passes.

    Attributes:
      scale: scalar float32, a power of two: the factor of the losses' means.
      good_steps: scalar int64, finite steps since the scale last changed.
    """

    scale: tf.Tensor
    good_steps: tf.Tensor

    def of_sums(self, batch_size: int) -> tf.Tensor:
        """The scale for sums over a batch, which are larger than means by about its size: scalar float32."""
        return self.scale * 2.0 ** -math.ceil(math.log2(batch_size))

    def overflowed(self, losses: tf.Tensor, finite: tf.Tensor) -> tf.Tensor:
        """True where a smaller scale may help: the (K,) losses are finite, the gradients are not, and it is above 1."""
        return ~finite & tf.reduce_all(tf.math.is_finite(losses)) & (self.scale > 1)

    def after(self, finite: tf.Tensor) -> "LossScale":
        """Halved after a step that was not finite (scalar bool), doubled after enough that were."""
        enough = self.good_steps + 1 >= _DOUBLED_AFTER
        scale = tf.where(enough, tf.minimum(self.scale * 2, _LARGEST), self.scale)
        return LossScale(
            tf.where(finite, scale, tf.maximum(self.scale / 2, 1.0)),
            tf.where(finite & ~enough, self.good_steps + 1, 0),
        )


def initial() -> LossScale:
    """The scale that a run starts with."""
    return LossScale(tf.constant(INITIAL, tf.float32), tf.constant(0, tf.int64))


class Scaling(Protocol):
    """A step's use of the loss scale, which its state carries."""

    def of_sums(self, scale: LossScale) -> tf.Tensor | None:
        """The factor of sums over a batch in their backward passes, scalar float32; None: 1."""

    def divided(self, values: Sequence[tf.Tensor], factor: tf.Tensor | None) -> Sequence[tf.Tensor]:
        """Float64 `values` divided by what `of_sums` gave."""

    def times_scale(self, factors: tf.Tensor, scale: LossScale) -> tf.Tensor:
        """Float64 `factors` of means times the whole scale."""

    def times_rest(self, factors: tf.Tensor, scale: LossScale, factor: tf.Tensor | None) -> tf.Tensor:
        """Float64 `factors` times what is missing from `of_sums` to the whole scale."""

    def unscaled(
        self, gradients: Sequence[tf.Tensor], factors: Sequence[tf.Tensor | None], scale: LossScale
    ) -> list[tf.Tensor]:
        """Each variable's gradient times its factor (None: 1), without the whole scale."""

    def after(
        self, scale: LossScale, losses: tf.Tensor, finite: tf.Tensor, in_domain: tf.Tensor, failed: tf.Tensor
    ) -> tuple[LossScale, tf.Tensor]:
        """The next step's scale; and whether this step `failed`, which it has not where a smaller scale may help."""

    def remembered(self, scale: LossScale) -> dict[str, tf.Tensor]:
        """The tensors that a checkpoint holds of the scale, by name."""

    def reported(self, scale: LossScale) -> dict[str, float]:
        """The numbers that a report holds of the scale, by name."""


class NoScaling:
    """Losses are differentiated as they are."""

    def of_sums(self, scale: LossScale) -> None:
        """None."""
        del scale

    def divided(self, values: Sequence[tf.Tensor], factor: None) -> Sequence[tf.Tensor]:
        """The values."""
        del factor
        return values

    def times_scale(self, factors: tf.Tensor, scale: LossScale) -> tf.Tensor:
        """The factors."""
        del scale
        return factors

    def times_rest(self, factors: tf.Tensor, scale: LossScale, factor: None) -> tf.Tensor:
        """The factors."""
        del scale, factor
        return factors

    def unscaled(
        self, gradients: Sequence[tf.Tensor], factors: Sequence[tf.Tensor | None], scale: LossScale
    ) -> list[tf.Tensor]:
        """Each gradient times its factor."""
        del scale
        return _times(gradients, factors)

    def after(
        self, scale: LossScale, losses: tf.Tensor, finite: tf.Tensor, in_domain: tf.Tensor, failed: tf.Tensor
    ) -> tuple[LossScale, tf.Tensor]:
        """The same."""
        del losses, finite, in_domain
        return scale, failed

    def remembered(self, scale: LossScale) -> dict[str, tf.Tensor]:
        """Nothing."""
        del scale
        return {}

    def reported(self, scale: LossScale) -> dict[str, float]:
        """Nothing."""
        del scale
        return {}


@dataclasses.dataclass(frozen=True)
class DynamicScaling:
    """Losses are multiplied by the scale for their backward passes, gradients divided by it afterwards.

    Attributes:
      batch_size: examples in a global batch.
    """

    batch_size: int

    def of_sums(self, scale: LossScale) -> tf.Tensor:
        """The scale for sums over a batch: scalar float32."""
        return scale.of_sums(self.batch_size)

    def divided(self, values: Sequence[tf.Tensor], factor: tf.Tensor) -> Sequence[tf.Tensor]:
        """The values divided by the factor."""
        factor = tf.cast(factor, tf.float64)
        return [value / factor for value in values]

    def times_scale(self, factors: tf.Tensor, scale: LossScale) -> tf.Tensor:
        """The factors times the scale."""
        return factors * tf.cast(scale.scale, tf.float64)

    def times_rest(self, factors: tf.Tensor, scale: LossScale, factor: tf.Tensor) -> tf.Tensor:
        """The factors times the rest of the scale."""
        return factors * tf.cast(scale.scale / factor, tf.float64)

    def unscaled(
        self, gradients: Sequence[tf.Tensor], factors: Sequence[tf.Tensor | None], scale: LossScale
    ) -> list[tf.Tensor]:
        """Each gradient times its factor, divided by the scale."""
        inverse = tf.math.reciprocal(tf.cast(scale.scale, tf.float64))
        return _times(gradients, [inverse if factor is None else factor * inverse for factor in factors])

    def after(
        self, scale: LossScale, losses: tf.Tensor, finite: tf.Tensor, in_domain: tf.Tensor, failed: tf.Tensor
    ) -> tuple[LossScale, tf.Tensor]:
        """The scale after a step; one that overflowed has not failed."""
        failed &= ~(scale.overflowed(losses, finite) & tf.reduce_all(in_domain))
        return scale.after(finite), failed

    def remembered(self, scale: LossScale) -> dict[str, tf.Tensor]:
        """Scale and number of good steps."""
        return scale._asdict()

    def reported(self, scale: LossScale) -> dict[str, float]:
        """The scale."""
        return {"loss_scale": float(scale.scale)}


def _times(gradients: Sequence[tf.Tensor], factors: Sequence[tf.Tensor | None]) -> list[tf.Tensor]:
    return [
        gradient if factor is None else gradient * tf.cast(factor, gradient.dtype)
        for gradient, factor in zip(gradients, factors, strict=True)
    ]
