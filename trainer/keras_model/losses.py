"""The losses of `compile` as the step has them: values of examples, summed over all replicas before any mean."""

from collections.abc import Sequence

from trainer.components import loss_functions
from trainer.components.losses import NamedLoss
from trainer.keras_model.outputs import CompiledLoss

# What a mean is taken over, by a loss's `reduction` in Keras.
_NORMALIZERS = {
    "sum_over_batch_size": "examples",
    "mean": "examples",
    "none": "examples",
    None: "examples",
    "mean_with_sample_weight": "weights",
    "sum": "sum",
}


def build(compiled: Sequence[CompiledLoss]) -> tuple[NamedLoss, ...]:
    """The losses of `compile`, in their order; each reads the output and the target of its head."""
    return tuple(_named(loss) for loss in compiled)


def _named(loss: CompiledLoss) -> NamedLoss:
    known = loss_functions.of_object(loss.function)
    return NamedLoss(
        name=loss.name,
        head=loss.head,
        slice=None,
        target=loss.head,
        function=known.function,
        every=1,
        offset=0,
        variables=None,
        normalizer=_NORMALIZERS[loss.function.reduction],
        targets_are_classes=known.targets_are_classes,
        pointwise=known.pointwise,
        takes_probabilities=known.takes_probabilities,
        scores=known.scores,
        ignored_class=known.ignored_class,
        over=None,
        may_compare=known.may_compare,
        scalar_is_mean=True,
        nan_is_missing=True,
    )
