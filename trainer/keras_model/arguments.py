"""The arguments of `compile`, checked: those of Keras', and those of a model with several losses."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.common import schema
from trainer.common.errors import ConfigError, unknown
from trainer.components import optimizers as optimizers_lib
from trainer.components.optimizers import SHARED
from trainer.config.settings import OFF, PASSES, LossConfig
from trainer.config.step_settings import StepSettings
from trainer.keras_model import combination, reading_losses
from trainer.keras_model.combination import Combine
from trainer.keras_model.reading_losses import ReadingLoss

_STRATEGIES = (tf.distribute.MirroredStrategy, tf.distribute.OneDeviceStrategy)
# What a model must leave to Keras, because `fit` and `evaluate` do not call it.
_REPLACED = ("train_step", "test_step", "compute_loss", "compute_metrics", "make_train_function", "make_test_function")


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The checked arguments of `compile`.

    Attributes:
      optimizer: of all variables that no other optimizer has; None: the model is only evaluated.
      optimizers: name of a loss, or "shared" → the optimizer of the variables that it alone reaches, or that several
        losses reach.
      loss: the losses of outputs, as Keras takes them.
      loss_weights: of those.
      reading: the losses with `reads`.
      metrics: as given.
      weighted_metrics: as given.
      combine: the combination.
      apply: "joint" or "per_loss".
      clip_norm: the largest norm of what is applied; None: no limit.
      micro_batches: parts of a batch that are computed one after another.
      diagnostics: whether norms, cosines and coefficients are logged.
      seed: of everything random in a step.
      scales_losses: whether losses are scaled for their backward passes (float16).
      run_eagerly: as given.
      jit_compile: whether forward and backward passes are compiled with XLA.
      steps_per_execution: as given.
      given: every argument as it was given, but for the optimizers, which are those above.
    """

    optimizer: keras.optimizers.Optimizer | None
    optimizers: Mapping[str, keras.optimizers.Optimizer]
    loss: Any
    loss_weights: Any
    reading: Sequence[ReadingLoss]
    metrics: Any
    weighted_metrics: Any
    combine: Combine
    apply: str
    clip_norm: float | None
    micro_batches: int
    diagnostics: bool
    seed: int
    scales_losses: bool
    run_eagerly: bool
    jit_compile: bool
    steps_per_execution: int
    given: Mapping[str, Any]

    def settings(self, losses: Mapping[str, LossConfig], batch_size: int) -> StepSettings:
        """The settings on which the plan of a step depends: per loss where every step is to measure.

        Args:
          losses: name of a loss → its settings, of which a plan reads `weight`, `over` and `variables`.
          batch_size: nominal number of examples in a global batch.
        """
        return StepSettings(
            name=self.combine.name,
            method=self.combine.method,
            apply=self.apply,
            losses=losses,
            reduction="per_loss" if self.diagnostics else "auto",
            batch_size=batch_size,
            per_variable=bool(self.combine.given.get("per_variable", False)),
            log_losses=self.combine.log_losses,
            smoothing=self.combine.smoothing,
            update_every=self.combine.update_every,
            micro_batches=self.micro_batches,
            compile=self.compile,
            measures=self.diagnostics,
        )

    @property
    def compile(self) -> str:
        """The value of `compile` in a configuration that does the same."""
        return PASSES if self.jit_compile else OFF

    @property
    def one_optimizer(self) -> bool:
        """True where one optimizer updates all variables, so that Keras saves and loads it as it does of any model."""
        return not self.optimizers and self.apply == "joint"

    def check_names(self, losses: Mapping[str, Any]) -> None:
        """Raises ConfigError for an optimizer of no loss; `losses` are the losses by their names."""
        for name, optimizer in self.optimizers.items():
            if name not in losses and name != SHARED:
                raise unknown(f"optimizers.{name}", optimizer.name, "loss", [*losses, SHARED], name=name)


def check(given: Mapping[str, Any], model: keras.Model) -> Compiled:
    """The arguments of `compile`, checked; call it in the scope of the model's strategy.

    Args:
      given: every argument by its name.
      model: the model that is compiled.

    Raises:
      ConfigError: an argument that cannot be; it names the argument and what is allowed.
    """
    combine = combination.select(given["combine"])
    apply = combination.way_to_apply(given["apply"], combine)
    own = _optimizer(given["optimizer"], "optimizer")
    scaled = isinstance(given["optimizer"], keras.mixed_precision.LossScaleOptimizer) or given["auto_scale_loss"]
    others = _optimizers(given["optimizers"])
    _check_apart(own, others)
    for field, each in {"optimizer": own, **{f"optimizers.{name}": each for name, each in others.items()}}.items():
        if each is not None and each.use_ema and (others or apply == "per_loss"):
            raise ConfigError(f"{field}.use_ema", True, "must be False unless one optimizer updates all variables")
    parts = reading_losses.split(given["loss"], given["loss_weights"])
    of_outputs = {"loss": parts.loss, "loss_weights": parts.loss_weights}
    for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
        reading = [loss.name for loss in parts.reading] if name == "loss_weights" else []
        _check_outputs(of_outputs.get(name, given[name]), model, name, reading)
    if given["jit_compile"] not in (True, False, None, "auto"):
        raise ConfigError("jit_compile", given["jit_compile"], "must be True, False or 'auto', which means False")
    jit_compile = given["jit_compile"] is True and not given["run_eagerly"]
    if jit_compile and (layer := next((each for each in model._flatten_layers() if not each.supports_jit), None)):
        raise ConfigError("jit_compile", True, f"must be False or 'auto': XLA cannot compile the layer {layer.name!r}")
    clip_norm = schema.optional(schema.number(positive=True))(given["clip_norm"], "clip_norm")
    return Compiled(
        optimizer=own,
        optimizers=others,
        **parts._asdict(),
        metrics=given["metrics"],
        weighted_metrics=given["weighted_metrics"],
        combine=combine,
        apply=apply,
        clip_norm=clip_norm,
        micro_batches=schema.integer(1)(given["micro_batches"], "micro_batches"),
        diagnostics=schema.boolean(given["diagnostics"], "diagnostics"),
        seed=schema.integer(0)(given["seed"], "seed"),
        scales_losses=scaled and model.dtype_policy.name == "mixed_float16",
        run_eagerly=given["run_eagerly"],
        jit_compile=jit_compile,
        steps_per_execution=schema.integer(1)(given["steps_per_execution"], "steps_per_execution"),
        given={**given, "optimizer": own, "optimizers": others or None},
    )


def check_steps(model: keras.Model, base: type[keras.Model]) -> None:
    """Raises ConfigError for a model with code of its own that `fit` and `evaluate` would not call.

    Args:
      model: the model.
      base: the class whose functions they call, or replace.
    """
    for name in _REPLACED:
        if getattr(type(model), name) is not getattr(base, name):
            allowed = "must be left as it is: fit takes the trainer's step; give losses and metrics to compile"
            raise ConfigError(name, type(model).__name__, allowed)


def check_strategy(strategy: tf.distribute.Strategy, model: keras.Model) -> None:
    """Raises ConfigError for replicas that Keras' `fit` cannot feed, or a model with variables of another scope."""
    none = not tf.distribute.has_strategy() and strategy is tf.distribute.get_strategy()
    if not none and not isinstance(strategy, _STRATEGIES):
        allowed = "must be MirroredStrategy, OneDeviceStrategy or none; for several machines use the command line"
        raise ConfigError("strategy", type(strategy).__name__, allowed)
    for variable in model.variables:
        if not strategy.extended.variable_created_in_scope(variable.value):
            allowed = f"must be made as a whole in the scope of one strategy, but {variable.path} was not"
            raise ConfigError("model", model.name, allowed)


def _optimizer(given: Any, field: str) -> keras.optimizers.Optimizer | None:
    """The optimizer that Keras makes of a name, a configuration or an object, for gradients that are reduced already.

    A loss scale around it is taken off: the step has its own.

    Raises:
      ConfigError: there is none of this name, or it cannot be used in a step.
    """
    try:
        found = keras.optimizers.get(given)
    except (ValueError, TypeError) as error:
        raise ConfigError(field, given, "must be a Keras optimizer, or the name of one") from error
    if isinstance(found, keras.mixed_precision.LossScaleOptimizer):
        found = found.inner_optimizer
    if found is not None:
        optimizers_lib.adopt(found, field)
    return found


def _optimizers(given: Any) -> dict[str, keras.optimizers.Optimizer]:
    """Name of a loss, or "shared" → its optimizer; raises ConfigError for one that cannot be used."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError("optimizers", given, "must be a dictionary from names of losses, or 'shared', to optimizers")
    found = {}
    for name, each in given.items():
        if each is None:
            raise ConfigError(f"optimizers.{name}", None, "must be a Keras optimizer, or the name of one")
        found[name] = _optimizer(each, f"optimizers.{name}")
    return found


def _check_apart(one: keras.optimizers.Optimizer | None, others: Mapping[str, keras.optimizers.Optimizer]) -> None:
    """Raises ConfigError for an optimizer that is given twice."""
    seen = [one]
    for name, each in others.items():
        if any(each is before for before in seen):
            raise ConfigError(f"optimizers.{name}", each.name, "is given twice; give each its own")
        seen.append(each)


def _check_outputs(given: Any, model: keras.Model, field: str, others: Sequence[str]) -> None:
    """Raises ConfigError for an entry of a dictionary that names no output of a functional model; `others` may be."""
    if not isinstance(given, Mapping) or not hasattr(model, "output_names"):
        return
    names = [*model.output, *model.output_names] if isinstance(model.output, Mapping) else model.output_names
    for name, value in given.items():
        if name not in names:
            if field == "loss" and isinstance(value, Mapping) and "loss" in value:
                raise ConfigError(f"loss.{name}.reads", ConfigError.ABSENT, "must be given: no output has this name")
            raise unknown(f"{field}.{name}", value, "output", [*names, *others], name=str(name))
