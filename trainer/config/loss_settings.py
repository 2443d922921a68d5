"""The settings of one loss, and of metrics without a loss."""

import dataclasses
from typing import Any

from trainer.common import schema
from trainer.common.schema import setting
from trainer.config import class_weights, paths

REPLICA, GLOBAL_BATCH = "replica", "global_batch"
OPTIMIZER = schema.call("name", or_arguments=True)


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """One named loss: the head and the target it compares, how, and its own optimizer."""

    head: str | None = setting(
        schema.optional(schema.string), None, "The head whose output it reads. None: the head of the loss's own name."
    )
    target: str | None = setting(
        schema.optional(schema.string), None, "The target it compares with. None: the target of the loss's own name."
    )
    loss: dict[str, Any] | None = setting(
        schema.optional(schema.call("name")),
        None,
        "A loss of Keras' or, by import path, a function `f(target, prediction)` with a value per example; with "
        "`reads`, a function of those arguments. It must be given unless `from` is.",
    )
    reads: dict[str, str] | None = setting(
        schema.optional(paths.check),
        None,
        "The arguments of the loss's function: each is `heads.<name>`, `targets.<name>`, `inputs.<name>` or "
        "`layers.<name>` (a layer of the model by its name). A function that also has an argument `derivative` is "
        "given `derivative(output, input)`. None: `target` and `head`.",
    )
    from_: str | None = setting(
        schema.optional(schema.string),
        None,
        "The layer whose `add_loss` and `activity_regularizer`, with those of the layers in it, are this loss; "
        "`model`: all that no other loss names. Each such scalar counts as a mean over the examples. None: `loss` is "
        "what it is.",
    )
    slice: tuple[int, int] | None = setting(
        schema.optional(schema.interval), None, "The part of the head's last axis that it reads. None: all of it."
    )
    weight: float | dict[str, Any] = setting(
        schema.number_or_call(schema.number(), "name"),
        1.0,
        "Its weight in the sum of the losses, which `weighted` and `independent` use; a dictionary is a Keras schedule "
        "over steps. In a step with the weight 0 the loss takes no part, whatever the method.",
    )
    every: int = setting(schema.integer(1), 1, "It takes part in every n-th step only.")
    offset: int = setting(
        schema.integer(0), 0, "The first step in which it takes part, counted from 0 and below `every`."
    )
    variables: list[str] | None = setting(
        schema.optional(schema.sequence(schema.string)),
        None,
        "Patterns of the names of the only variables it updates, for example `trunk_*`. None: all that it reaches.",
    )
    normalizer: str = setting(
        schema.choice("normalizer", ("weights", "examples")),
        "weights",
        "What the batch's weighted sum is divided by: the sum of the labels' weights, or as Keras does the number of "
        "values.",
    )
    class_weights: list | dict[str, float] | str | None = setting(
        schema.optional(class_weights.check),
        None,
        "Weights of the classes of its target, which multiply the labels' own in this loss, not in metrics: one for "
        "each class (`[negative, positive]` of a binary loss), or some by number or name, others being 1. `balanced`: "
        "labels / (classes * labels of the class), counted in the training split. None: all weigh the same.",
    )
    over: str | None = setting(
        schema.optional(schema.choice("set of examples", (REPLICA, GLOBAL_BATCH))),
        None,
        "The labelled examples that its function sees together, for a loss that compares examples with one another: "
        "`global_batch`, all of a step, whatever the number of devices; `replica`, those of each device (and "
        "micro-batch). None: the value of an example depends on no other one.",
    )
    metrics: list[dict[str, Any]] = setting(
        schema.sequence(schema.call("name")),
        [],
        "Keras metrics of its head and target, for the validation split; every label counts 1. One with `units: "
        "original` is of numbers as the target had them before it was prepared.",
    )
    weighted_metrics: list[dict[str, Any]] = setting(
        schema.sequence(schema.call("name")), [], "Metrics in which every label counts by its weight."
    )
    optimizer: dict[str, Any] | None = setting(
        schema.optional(OPTIMIZER),
        None,
        "The Keras optimizer of the variables that this loss alone reaches. None: as `optimizer` of the run; a "
        "dictionary without `name` changes arguments of that.",
    )

    @property
    def layers_read(self) -> list[str]:
        """The paths among `reads` that name layers."""
        return [text for text in (self.reads or {}).values() if paths.parse(text).kind == paths.LAYERS]


@dataclasses.dataclass(frozen=True)
class MetricsConfig:
    """Metrics of a head that need no loss: no gradient is computed for them. They are named as a loss is."""

    head: str | None = setting(
        schema.optional(schema.string), None, "The head whose output they read. None: the head of their own name."
    )
    target: str | None = setting(
        schema.optional(schema.string), None, "The target they compare with. None: the target of their own name."
    )
    slice: tuple[int, int] | None = setting(
        schema.optional(schema.interval), None, "The part of the head's last axis that they read. None: all of it."
    )
    metrics: list[dict[str, Any]] = setting(
        schema.sequence(schema.call("name")),
        [],
        "Keras metrics, for the validation split; every label counts 1. They may have `units`, as those of a loss.",
    )
    weighted_metrics: list[dict[str, Any]] = setting(
        schema.sequence(schema.call("name")), [], "Metrics in which every label counts by its weight."
    )
