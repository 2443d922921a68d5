"""The values that the parts of a step hand to one another, its summary, its totals and its state."""

from typing import NamedTuple

import tensorflow as tf

from trainer.combine.problem import Answer
from trainer.gradients.reach import Jacobian
from trainer.gradients.statistics import Finite
from trainer.step.loss_scale import LossScale

Gradients = tuple[tuple[tf.Tensor, ...], ...]  # for every `OptimizerGroup`, one gradient for each of its variables


class LossNumbers(NamedTuple):
    """The numbers of the losses that travel between replicas; (K,) each, or (parts, K).

    Attributes:
      loss_sums: Σ w·ℓ.
      weight_sums: Σ w.
      left: the number of values that masks leave, where a loss is divided by it or the size of batches varies; else ().
      in_all: number of values in the *global* batch, masked ones and all, in the largest one where sizes vary; the same
        on every replica.
    """

    loss_sums: tf.Tensor
    weight_sums: tf.Tensor
    left: tuple[tf.Tensor, ...]
    in_all: tf.Tensor


class LocalSums(NamedTuple):
    """One replica's part of a step.

    Attributes:
      jacobian: per variable, gradients of Σ w·ℓ of the losses that reach it, times the loss scale.
      loss_sums, weight_sums, left, in_all: those of `LossNumbers`, (1, K); (2, K) of each half of the batch, where the
        combination looks at two.
    """

    jacobian: Jacobian
    loss_sums: tf.Tensor
    weight_sums: tf.Tensor
    left: tuple[tf.Tensor, ...]
    in_all: tf.Tensor

    GRADIENTS = "jacobian"
    SUMMED = (GRADIENTS, "loss_sums", "weight_sums", "left")  # over micro-batches


class FusedSums(NamedTuple):
    """One replica's part of a step with one weighted sum of the losses.

    Attributes:
      gradients: per variable, of this replica's part of the weighted sum of the global means, times the loss scale.
      loss_sums: (K,) Σ w·ℓ.
      weight_sums: (K,) Σ w; as `loss_sums` of the global batch already, where these are needed first.
      counts: (K,) number of values in the *global* batch; where the size of batches varies and sums are not needed
        first, in the largest one.
      present: where that is so, the number of examples that there are, scalar, and (K,) of their values; else ().
      answer: the combination's; where earlier coefficients are kept, those.
    """

    gradients: tuple[tf.Tensor, ...]
    loss_sums: tf.Tensor
    weight_sums: tf.Tensor
    counts: tf.Tensor
    present: tuple[tf.Tensor, ...]
    answer: Answer

    GRADIENTS = "gradients"
    SUMMED = (GRADIENTS, "loss_sums", "weight_sums", "present")  # over micro-batches


class Applied(NamedTuple):
    """The changes that a replica makes where the step is accepted.

    Attributes:
      gradients: for every `OptimizerGroup`, one gradient for each of its variables.
      gradient_averages: the new moving averages of shared variables' gradients, where the combination mixes those.
    """

    gradients: Gradients
    gradient_averages: Jacobian = ()


class Measurement(NamedTuple):
    """The norms, cosines and coefficients that a step measured of its gradients.

    Attributes:
      measured: scalar bool, whether it did; the other fields have no meaning otherwise.
      active: (K,) bool, the losses that took part.
      grad_norms: (K,) float64, length of each loss's whole gradient.
      cosines: (K, K) float64, between the losses' gradients over the shared variables.
      coefficients: (K,) float64, how much of each loss's gradient is in the sum of the mixed ones of shared variables.
    """

    measured: tf.Tensor
    active: tf.Tensor
    grad_norms: tf.Tensor
    cosines: tf.Tensor
    coefficients: tf.Tensor


class StepSummary(NamedTuple):
    """The summary of a step; the same on every replica.

    Attributes:
      losses: (K,) global means; 0 where inactive.
      active: (K,) bool, the losses that take part: due in this step, of a weight other than 0, with a labelled example
        in the global batch.
      finite: the losses that are finite with all their gradients.
      in_domain: (K,) bool, whether the combination can take the loss's logarithm, where it does; and whether what a
        method of the user's own made of it is finite.
      answer: the combination's, its coefficients joint, (K,).
      measurement: of the gradients.
      has_cosines: scalar bool, whether the measurement's cosines are of this step, though it may measure nothing else.
    """

    losses: tf.Tensor
    active: tf.Tensor
    finite: Finite
    in_domain: tf.Tensor
    answer: Answer
    measurement: Measurement
    has_cosines: tf.Tensor

    def checked(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Two scalar bools: whether all is finite; whether the step may change anything, as logarithms exist too."""
        return self.finite.all, self.finite.all & tf.reduce_all(self.in_domain)


class StepOutcome(NamedTuple):
    """The outcome of a step.

    Attributes:
      combination: what the combination remembers.
      wrong: (K,) bool, the losses for which it could not be taken.
      losses: (K,) the losses, for a message about those.
      failed: scalar bool, whether the run must end.
    """

    combination: dict[str, tf.Tensor]
    wrong: tf.Tensor
    losses: tf.Tensor
    failed: tf.Tensor


class Totals(NamedTuple):
    """Sums and measurements that the in-graph loop carries from step to step, on the device, until a report reads them.

    Attributes:
      losses: (K,) sums of the losses over the steps in which they were active.
      counts: (K,) number of those steps.
      fallbacks: number of steps in which the combination's problem had no solution.
      failed_step: number (from 0) of the first step that could not be taken; -1 while there is none.
      failed: (K,) bool, the losses that were not finite there or too small for the combination's logarithm or division.
      failed_losses: (K,) the losses there.
      cosine_sums: (K, K) float64, sums of the cosines over the steps that have them.
      cosine_counts: (K, K) float64, number of those steps in which neither gradient was zero.
      measured: by the last step that measured norms and cosines.
    """

    losses: tf.Tensor
    counts: tf.Tensor
    fallbacks: tf.Tensor
    failed_step: tf.Tensor
    failed: tf.Tensor
    failed_losses: tf.Tensor
    cosine_sums: tf.Tensor
    cosine_counts: tf.Tensor
    measured: Measurement


class State(NamedTuple):
    """The memory of the step beside the variables; a checkpoint holds it.

    Attributes:
      loss_scale: of `precision: mixed_float16`.
      coefficients: (K,) float64, the joint coefficients that the combination last found (`combine.update_every`); NaN
        where the next step must find some.
      combination: what the combination itself remembers.
    """

    loss_scale: LossScale
    coefficients: tf.Tensor
    combination: dict[str, tf.Tensor]
