"""`MultiLossModel`: a Keras model whose `compile` takes any combination of its losses, and whose `fit` the step."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Self

import keras
from keras.src import backend
from keras.src.models.functional import Functional
from keras.src.utils.tracking import no_automatic_dependency_tracking

from trainer.common.errors import ConfigError
from trainer.keras_model import argument_names, arguments, build, element, epochs, functional, state
from trainer.keras_model.arguments import Compiled
from trainer.keras_model.build import Training
from trainer.keras_model.element import Element
from trainer.keras_model.state import TrainingState


@keras.saving.register_keras_serializable(package="trainer")
class MultiLossModel(keras.Model):
    """A `keras.Model` with several losses, combined by any method, in every step of `fit` and `train_on_batch`.

    It is made as a `keras.Model` is: of inputs and outputs, by subclassing, or `of` another model. `evaluate`,
    `predict` and `save` are Keras'.
    """

    _arguments: Compiled | None = None
    _training: Training | None = None
    _element: Element | None = None
    _class_weights: Mapping[str, Mapping[int, float]] | None = None
    _built_for: tuple[Any, ...] | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        if functional.is_functional_call(args, kwargs):
            functional.make_functional(self)
            Functional.__init__(self, *args, **kwargs)
        else:
            super().__init__(*args, **kwargs)
        self._training_state = TrainingState()

    @classmethod
    def of(cls, model: keras.Model) -> Self:
        """A model of the same layers and variables, inputs and outputs, not compiled.

        Args:
          model: any Keras model. A functional or built sequential one becomes a functional one; another one is
            called, and found as `wrapped`.

        Raises:
          ConfigError: it is no Keras model, or has a `train_step` of its own.
        """
        if not isinstance(model, keras.Model):
            raise ConfigError("model", model, "must be a keras.Model")
        arguments.check_steps(model, MultiLossModel if isinstance(model, MultiLossModel) else keras.Model)
        if (graph := functional.graph(model)) is None:
            return WrappedModel(model)
        frozen = {} if model.trainable else {"trainable": False}
        return cls(*graph, name=model.name, **frozen)

    @no_automatic_dependency_tracking
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
        *,
        combine: str | Mapping[str, Any] | Callable[..., Any] = "weighted",
        optimizers: Mapping[str, Any] | None = None,
        apply: str | None = None,
        clip_norm: float | None = None,
        micro_batches: int = 1,
        diagnostics: bool = False,
        seed: int = 0,
    ) -> None:
        """Configures training: all that `keras.Model.compile` takes, and how losses become one update.

        Args:
          optimizer: of all variables for which `optimizers` has no other.
          loss: as Keras takes it, as are all not listed here; by any name also `{"loss": function, "reads": paths}`.
          loss_weights: scale the losses before they are combined.
          jit_compile: True compiles forward and backward passes with XLA; "auto" means False.
          auto_scale_loss: whether losses are scaled where the policy is mixed_float16.
          combine: the combination: its name, a dictionary of its "name" and options, or a function of the user's
            own (`trainer.combine.user_function`), itself or as that name.
          optimizers: the name of a loss, or "shared" → the optimizer of the variables that it alone reaches, or that
            several losses reach; applied per loss, of all that the loss reaches.
          apply: "joint" applies the sum of the mixed gradients, "per_loss" every loss's own by its own optimizer; None:
            as the combination needs it.
          clip_norm: the largest norm of all that is applied in a step.
          micro_batches: parts of a batch that are computed one after another.
          diagnostics: log `grad_norm_<loss>`, `cosine_<a>_<b>` and `coefficient_<loss>`.
          seed: of everything random in a step.

        Raises:
          ConfigError: an argument that cannot be, or a model with a `train_step` of its own.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        strategy = self.distribute_strategy
        arguments.check_steps(self, MultiLossModel)
        arguments.check_strategy(strategy, self)
        with strategy.scope():
            compiled = arguments.check(given, self)
            super().compile(
                optimizer=compiled.optimizer,
                run_eagerly=run_eagerly,
                steps_per_execution=steps_per_execution,
                jit_compile=compiled.jit_compile,
                auto_scale_loss=False,
            )
        self.loss = loss
        self._arguments, self._training = compiled, None
        self._training_state.forget()
        if compiled.optimizer is not None and not compiled.one_optimizer:
            state.keep_from_keras(compiled.optimizer)

    def __reduce__(self) -> tuple[Any, ...]:
        """Keras' way to pickle a model, without its class, which has its name but not always its place."""
        _, described = super().__reduce__()
        return keras.Model._unpickle_model, described

    def get_compile_config(self) -> dict[str, Any]:
        """The arguments of `compile` for a file; empty where it was not called."""
        if self._arguments is None:
            return {}
        return {name: keras.saving.serialize_keras_object(value) for name, value in self._arguments.given.items()}

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Calls `compile` with the arguments of a file, and prepares the optimizer for the state in it."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self._build_optimizer()

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Trackers of all that `fit` and `evaluate` report, in Keras' order."""
        if self._training is None:
            return super().metrics
        return [*self._training.metrics, *(each for each in super().metrics if each is not self._loss_tracker)]

    def get_metrics_result(self) -> dict[str, Any]:
        """The results of `metrics` by name, as Keras has them; all means are read at once."""
        return super().get_metrics_result() if self._training is None else self._training.logs()

    @functools.wraps(keras.Model.fit, assigned=())
    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains as Keras' `fit`; `class_weight` may hold a dictionary of class weights for each output, by name."""
        given = self._without_class_weights(keras.Model.fit, args, kwargs)
        given["callbacks"] = epochs.with_epochs(given.get("callbacks"), lambda: self._training.epoch)
        return super().fit(**given)

    @functools.wraps(keras.Model.train_on_batch, assigned=())
    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Takes a step as Keras' `train_on_batch`, with `class_weight` as for `fit`."""
        return super().train_on_batch(**self._without_class_weights(keras.Model.train_on_batch, args, kwargs))

    @no_automatic_dependency_tracking
    def _without_class_weights(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The arguments of `fit` by name, without class weights by output, which Keras does not take."""
        given = inspect.signature(function).bind(self, *args, **kwargs).arguments
        del given["self"]
        weights = given.get("class_weight")
        by_output = isinstance(weights, Mapping) and any(isinstance(each, Mapping) for each in weights.values())
        self._class_weights = given.pop("class_weight") if by_output else None
        return given

    @argument_names.translated()
    def make_train_function(self, force: bool = False) -> None:
        """Sets `train_function`, which takes steps on what `fit` or `train_on_batch` feeds."""
        self._build_training(anew=force or self._built_for != self._trained_on)
        self.train_function = self._training.train_function

    @argument_names.translated()
    def make_test_function(self, force: bool = False) -> None:
        """Sets `test_function`, which evaluates what `evaluate` or `test_on_batch` feeds."""
        self._build_training(anew=force)
        self.test_function = self._training.test_function

    @no_automatic_dependency_tracking
    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Creates all variables, from the shapes of what Keras will feed; none of it is taken away."""
        self._element = element.of_batch(data_batch) if iterator is None else element.of_iterator(iterator)
        if not all(layer.built for layer in self._flatten_layers()):
            with self.distribute_strategy.scope():
                backend.compute_output_spec(self, element.symbolic(self._element.spec[0]), training=False)
        self._build_optimizer()

    def _build_optimizer(self) -> None:
        """Creates the state of an optimizer that updates all variables; others know theirs once training is built."""
        if self.optimizer is not None and self._arguments.one_optimizer and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    @no_automatic_dependency_tracking
    def _build_training(self, *, anew: bool) -> None:
        """Builds what the functions of `fit` and `evaluate` are made of, unless there is one that will do."""
        if self._training is not None and not anew:
            return
        strategy = self.distribute_strategy
        # Keras lets these be set after `compile`.
        now = {"run_eagerly": self.run_eagerly, "steps_per_execution": self.steps_per_execution}
        compiled = dataclasses.replace(self._arguments, **now)
        arguments.check_strategy(strategy, self)
        with strategy.scope():
            training = build.build(self, compiled, self._element.spec, self._element.batch_size, self._class_weights)
        self._training_state.attach(training.state, {} if compiled.one_optimizer else training.optimizers)
        self._training, self._built_for = training, self._trained_on

    @property
    def _trained_on(self) -> tuple[Any, ...]:
        """Equal where a training that was built before will do."""
        return self._element.key, self._class_weights, self.run_eagerly, self.steps_per_execution


@keras.saving.register_keras_serializable(package="trainer")
class WrappedModel(MultiLossModel):
    """A `MultiLossModel` that calls a Keras model which is not functional.

    Attributes:
      wrapped: the model.
    """

    def __init__(self, wrapped: keras.Model, **kwargs: Any):
        super().__init__(**({"name": wrapped.name} | kwargs))
        self.wrapped = wrapped

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers of the model that is called."""
        return self.wrapped.layers

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The outputs of the model that is called; layers in it learn of `training` from Keras."""
        del training
        return self.wrapped(inputs)

    def get_config(self) -> dict[str, Any]:
        """Keras' description of the model that is called."""
        return {"name": self.name, "wrapped": keras.saving.serialize_keras_object(self.wrapped)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Self:
        """A model that calls the one that was described."""
        wrapped = keras.saving.deserialize_keras_object(config.pop("wrapped"), custom_objects)
        return cls(wrapped, **config)
