"""Predicted numbers in the units of a target's source: values, and what losses of distributions say beside them."""

from collections.abc import Callable

import tensorflow as tf

from trainer.components import own_loss
from trainer.components.distribution_losses import GaussianNLL, Quantile
from trainer.components.prediction_parts import DEVIATION, QUANTILE, VALUE, Part, Parts, Target, in_shape_of


def of_value(target: Target, activation: Callable[[tf.Tensor], tf.Tensor] = tf.identity) -> Parts:
    """The parts of a prediction that is the target's value, once the activation is applied."""
    return Parts(lambda prediction: {VALUE: undone(target, activation(prediction))}, {VALUE: _part(target, "value")})


def of_normal(target: Target, loss: GaussianNLL) -> Parts:
    """The mean and, where the way back keeps distances in proportion, the standard deviation."""
    described = {VALUE: _part(target, "predicted mean")}
    if target.inverse.is_linear:
        described[DEVIATION] = _part(target, "predicted standard deviation")

    def compute(prediction: tf.Tensor) -> dict[str, tf.Tensor]:
        found = {VALUE: undone(target, loss.metric_prediction(prediction))}
        if target.inverse.is_linear:
            deviation = loss.deviation(prediction)
            found[DEVIATION] = tf.abs(undone(target, deviation) - undone(target, tf.zeros_like(deviation)))
        return found

    return Parts(compute, described)


def of_quantiles(target: Target, loss: Quantile) -> Parts:
    """The quantile nearest to the median and, of several, each of them by its own name."""
    reverses = target.inverse.reverses
    shares = [f"{1 - share if reverses else share:.12g}" for share in loss.quantiles]
    keys = [f"{QUANTILE}/{share}" for share in shares] if len(shares) > 1 else []
    described = {VALUE: _part(target, "predicted quantile nearest to the median" if keys else f"{shares[0]} quantile")}
    described |= {key: _part(target, f"{share} quantile") for key, share in zip(keys, shares, strict=False)}

    def compute(prediction: tf.Tensor) -> dict[str, tf.Tensor]:
        each = own_loss.by_number(loss, prediction)
        found = {key: undone(target, each[..., index]) for index, key in enumerate(keys)}
        return {VALUE: undone(target, loss.metric_prediction(prediction))} | found

    return Parts(compute, described)


def of_unknown(target: Target, loss: str) -> Parts:
    """The head's numbers as they are, of a function of which it is not known how they belong to the target."""
    meaning = f"the head's numbers as they are: how {loss} compares them with target {target.name!r} is not known"
    return Parts(lambda prediction: {VALUE: tf.identity(prediction)}, {VALUE: Part(meaning)})


def undone(target: Target, values: tf.Tensor) -> tf.Tensor:
    """Numbers like those of a prepared target in the units of its source, (examples, ...)."""
    return target.inverse(in_shape_of(target, values))


def _part(target: Target, kind: str) -> Part:
    inverse = target.inverse
    if inverse.hindrance is not None:
        after = "as prepared" if inverse.stopped_by is None else f"as it is after {inverse.stopped_by!r}"
        return Part(f"{kind} of target {target.name!r}, {after}: {inverse.hindrance}", target.columns)
    columns = inverse.features if inverse.shape == (len(inverse.features),) else target.columns
    return Part(f"{kind} of target {target.name!r}, in its own units", columns)
