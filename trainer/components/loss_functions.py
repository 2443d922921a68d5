"""Functions of losses by name or import path, and what their kind says of shapes, weights and probabilities."""

import enum
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.src.losses.losses import LossFunctionWrapper

from trainer.common import import_paths, schema
from trainer.common.errors import ConfigError
from trainer.components import keras_objects
from trainer.components.class_weights import ClassWeightedBinaryCrossentropy
from trainer.components.distillation_losses import Distillation
from trainer.components.distribution_losses import GaussianNLL, Quantile
from trainer.components.embedding_losses import Contrastive, TripletSemihard
from trainer.components.focal_losses import SparseCategoricalFocalCrossentropy
from trainer.components.ranking_losses import PairwiseLogistic, SoftmaxRanking
from trainer.config.paths import DERIVATIVE

# Losses of the trainer beside those of Keras.
OWN = (
    ClassWeightedBinaryCrossentropy,
    Contrastive,
    Distillation,
    GaussianNLL,
    PairwiseLogistic,
    Quantile,
    SoftmaxRanking,
    SparseCategoricalFocalCrossentropy,
    TripletSemihard,
)
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
TARGET, PREDICTION = "y_true", "y_pred"  # what Keras calls the arguments of a loss
# Losses whose targets are class indices: one number where the prediction has one per class.
_CLASS_INDICES = (
    "SparseCategoricalCrossentropy",
    "SparseCategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
)
# Losses whose target has a shape of its own.
_FREE_SHAPE = ("CTC", "Circle", "Contrastive", "TripletSemihard")
# Losses that compare examples with one another; one of pairs does so where a head gives a single number.
_COMPARE = ("Circle", "Contrastive", "TripletSemihard", "PairwiseLogistic")
# Losses that are the mean over the last axis of a function of one number and its prediction.
_POINTWISE = (
    "MeanSquaredError",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredLogarithmicError",
    "Huber",
    "LogCosh",
    "Poisson",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "ClassWeightedBinaryCrossentropy",
    "GaussianNLL",
    "Quantile",
)
# Losses of a label each of which is there or not, and of one class of several.
_OF_LABELS = (
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "ClassWeightedBinaryCrossentropy",
)
_OF_CLASSES = (
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "SparseCategoricalCrossentropy",
    "SparseCategoricalFocalCrossentropy",
)
_OF_SCORES = ("PairwiseLogistic", "SoftmaxRanking")  # which are logits, of labels or classes as the target has it
_OF_MARGINS = ("Hinge", "SquaredHinge")


_KNOWN = ("keras.", "trainer.components.")  # the modules of these


class Kind(enum.Enum):
    """The kinds of targets: labels that are there or not (1 or 0), also as 1 or -1; one class of several; others."""

    LABELS = "labels"
    MARGINS = "margins"
    CLASSES = "classes"
    OTHER = "other"


class Scores(NamedTuple):
    """The meaning that a loss gives to predictions.

    Attributes:
      kind: of its targets.
      are_probabilities: False for logits and for the scores of a hinge loss, of which those above 0 are positive.
    """

    kind: Kind
    are_probabilities: bool


class LossFunction(NamedTuple):
    """A function of a loss; `NamedLoss` has the same fields.

    Attributes:
      function: `function(target, prediction)`, or a function of what it reads → one value per example, shape
        (examples, ...).
      targets_are_classes: whether the target holds class indices; None where its shape is the function's own affair.
      pointwise: whether it is a mean over the last axis, so that every number of a target can have a weight.
      takes_probabilities: whether it could take logits but is not set to, so that predictions must lie in [0, 1].
      scores: what its predictions are.
      ignored_class: the class that it leaves out; None: none.
      may_compare: whether the value of an example may depend on other examples, as far as its name says.
    """

    function: Loss
    targets_are_classes: bool | None
    pointwise: bool
    takes_probabilities: bool
    scores: Scores
    ignored_class: int | None
    may_compare: bool
    takes_derivative: bool = False


def build(
    loss: str | Mapping[str, Any], field: str, reads: Mapping[str, str] | None = None, reads_field: str = ""
) -> LossFunction:
    """Resolves a function with its arguments; raises ConfigError where it or an argument does not exist.

    Args:
      loss: its name or import path, or these as `name` beside arguments.
      field: the configuration's key, for errors.
      reads: the arguments that it is given by name; None: a target and a prediction, its first two.
      reads_field: the configuration's key of `reads`.
    """
    function_name, arguments = keras_objects.split(loss)
    found = keras_objects.find(function_name, keras.losses, keras.losses.Loss, kind="loss", field=field, own=OWN)
    if inspect.isclass(found):
        if "reduction" in arguments:
            raise ConfigError(
                f"{field}.reduction", arguments["reduction"], "is the trainer's: it needs one value per example"
            )
        keras_objects.make_numbers(found, arguments, field, lists=("alpha",))  # a focal loss's, one for each class
        if arguments.get("ignore_class") is not None:
            schema.integer(-(2**31))(arguments["ignore_class"], f"{field}.ignore_class")
        _refuse_axis_of_examples(arguments, field)
        # A Loss object would divide by the number of replicas, unless it does not reduce at all.
        function = keras_objects.build(
            found, arguments, field=field, base=keras.losses.Loss, refused=("reduction", "dtype")
        )
        function.reduction = "none"
        if reads is not None:
            import_paths.check_arguments(found.call, reads, field=reads_field, positional=1)
    else:
        if reads is None:
            import_paths.check_arguments(found, arguments, field=field, positional=2)
        else:
            _check_read(found, arguments, field, reads, reads_field)
        function = functools.partial(_with_autograph(found), **arguments)
    known = _described(function, found, arguments, is_known=not import_paths.is_path(function_name))
    takes_derivative = reads is not None and not inspect.isclass(found) and _asks_for_derivative(found)
    return known._replace(takes_derivative=takes_derivative)


def of_object(loss: keras.losses.Loss) -> LossFunction:
    """Describes an object of Keras that is a loss, as `compile` makes it; its function is the loss itself, not reduced.

    Args:
      loss: one of Keras' or of the user's own, or Keras' wrapper of a function; stays as it is.
    """
    if type(loss) is LossFunctionWrapper:
        found, arguments = loss.fn, loss._fn_kwargs
        classes = {schema.squashed(name): each for name, each in vars(keras.losses).items() if inspect.isclass(each)}
        if (getattr(found, "__module__", "") or "").startswith(_KNOWN):
            found = classes.get(schema.squashed(keras_objects.name_of(found)), found)
    else:
        found, arguments = type(loss), loss.get_config()
    is_known = (getattr(found, "__module__", "") or "").startswith(_KNOWN)
    if type(loss).__call__ is not keras.losses.Loss.__call__:  # the only one that looks at it here
        whole, loss = loss, object.__new__(type(loss))  # `copy` would write it as for a file, and read it again
        vars(loss).update(vars(whole) | {"reduction": "none"})
    return _described(loss, found, arguments, is_known=is_known)


def of_reading(loss: Any, field: str, reads: Mapping[str, str], reads_field: str) -> LossFunction:
    """Describes a function, or a loss of Keras as an object or a class, that is given what it reads by name.

    Args:
      loss: the function or loss; stays as it is.
      field: its key, for errors.
      reads: the arguments that it is given by name.
      reads_field: the key of `reads`.

    Raises:
      ConfigError: it does not take these arguments, or needs others.
    """
    loss = loss() if inspect.isclass(loss) else loss
    if isinstance(loss, keras.losses.Loss):
        import_paths.check_arguments(loss.call, reads, field=reads_field)
        return of_object(loss)
    _check_read(loss, {}, field, reads, reads_field)
    is_known = getattr(loss, "__module__", "").startswith(_KNOWN)
    known = _described(functools.partial(_with_autograph(loss)), loss, {}, is_known=is_known)
    return known._replace(takes_derivative=_asks_for_derivative(loss))


def _described(function: Loss, found: Callable, arguments: Mapping[str, Any], *, is_known: bool) -> LossFunction:
    """Describes a function by the class or function `found` of Keras (`is_known`) or the user that it is."""
    name = keras_objects.name_of(found)
    return LossFunction(
        function=function,
        targets_are_classes=name in _CLASS_INDICES if is_known and name not in _FREE_SHAPE else None,
        pointwise=is_known and name in _POINTWISE,
        takes_probabilities=_takes_probabilities(found, arguments),
        scores=_scores(found, arguments),
        ignored_class=arguments.get("ignore_class"),
        may_compare=not is_known or name in _COMPARE,
    )


def _check_read(
    found: Callable, arguments: Mapping[str, Any], field: str, reads: Mapping[str, str], reads_field: str
) -> None:
    """Raises ConfigError unless what a function reads and its other arguments are together what it takes."""
    for name in arguments:
        if name in reads:
            raise ConfigError(f"{reads_field}.{name}", reads[name], f"is given by {field}.{name}, too")
    derivative = (DERIVATIVE,) if _asks_for_derivative(found) else ()
    import_paths.check_arguments(found, reads, field=reads_field, others={*arguments, *derivative})
    import_paths.check_arguments(found, arguments, field=field, others={*reads, *derivative})


def _asks_for_derivative(function: Callable) -> bool:
    try:
        return DERIVATIVE in inspect.signature(function).parameters
    except (TypeError, ValueError):  # builtins need not have a signature
        return False


def _refuse_axis_of_examples(arguments: Mapping[str, Any], field: str) -> None:
    axis = arguments.get("axis")
    if 0 in (axis if isinstance(axis, list | tuple) else [axis]):
        raise ConfigError(f"{field}.axis", axis, "must not hold 0, the axis of the examples")


def name_of(function: Loss) -> str:
    """Returns a function's name for messages."""
    if type(function).__name__ == "LossFunctionWrapper":  # what Keras makes of a function of the user's own
        function = function.fn
    function = getattr(function, "func", function)
    return getattr(function, "__name__", type(function).__name__).removeprefix("tf__")


def _with_autograph(function: Loss) -> Loss:
    """A user's function with Python conditions on tensors turned into graph ones, as Keras' `fit` would."""
    try:
        return tf.autograph.to_graph(function)
    except Exception:  # no source to convert: a builtin, a lambda, a callable object
        return function


def _scores(function: Callable, arguments: Mapping[str, Any]) -> Scores:
    """The meaning of a loss's predictions, by the Keras class that it is or derives from, or the Keras function."""
    bases = inspect.getmro(function) if inspect.isclass(function) else (function,)
    known = [base for base in bases if (base.__module__ or "").startswith(_KNOWN)]  # None of what `exec` has made
    names = {schema.squashed(keras_objects.name_of(base)) for base in known}

    def is_one_of(known: tuple[str, ...]) -> bool:
        return any(schema.squashed(name) in names for name in known)

    if is_one_of(_OF_MARGINS):
        return Scores(Kind.MARGINS, are_probabilities=False)
    if is_one_of(_OF_SCORES):
        return Scores(Kind.OTHER, are_probabilities=False)
    kind = Kind.LABELS if is_one_of(_OF_LABELS) else Kind.CLASSES if is_one_of(_OF_CLASSES) else Kind.OTHER
    return Scores(kind, are_probabilities=not _argument(function, arguments, "from_logits"))


def _takes_probabilities(function: Callable, arguments: Mapping[str, Any]) -> bool:
    return _argument(function, arguments, "from_logits") is False


def _argument(function: Callable, arguments: Mapping[str, Any], name: str) -> Any:
    """The value of a function's argument, given or by default; None where it has no such argument."""
    try:
        parameter = inspect.signature(function).parameters.get(name)
    except (TypeError, ValueError):  # builtins need not have a signature
        return None
    return None if parameter is None else arguments.get(name, parameter.default)
