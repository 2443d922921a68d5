"""A SavedModel whose signatures take raw data, as the run's source gives them: the preparation is in the graph."""

import pathlib
from collections.abc import Callable, Mapping

import tensorflow as tf

from input_pipelines import raw_features
from trainer.common.errors import ConfigError, first_line
from trainer.export import foreign_operations
from trainer.export.trained import Trained

SERVING, OF_EXAMPLES = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY, "examples"
_FIELD, _NAME = "--format", "saved_model"


def write(trained: Trained, path: pathlib.Path) -> None:
    """Writes the folder of a SavedModel.

    Its signature `serving_default` takes a batch of every feature by its name; `examples` takes serialized
    `tf.train.Example`s of them, where these can hold them. Both give what each loss makes of the heads.

    Raises:
      ConfigError: the preparation or the model calls Python, draws random numbers, or holds what cannot be saved.
    """
    names = raw_features.names(list(trained.features))
    specs = {
        names[feature]: tf.TensorSpec((None, *each.spec.shape), each.spec.dtype, name=names[feature])
        for feature, each in trained.features.items()
    }
    module = tf.Module()
    module.model, module.tables = trained.model, trained.tables  # the graphs read them
    signatures = {SERVING: _traced(lambda **raw: trained.answer({f: raw[name] for f, name in names.items()}), **specs)}
    if raw_features.can_be_parsed(trained.features):
        serialized = tf.TensorSpec((None,), tf.string, name=OF_EXAMPLES)
        signatures[OF_EXAMPLES] = _traced(
            lambda examples: trained.answer(raw_features.parsed(trained.features, examples)), serialized
        )
    foreign_operations.refuse(signatures[SERVING], _NAME)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    try:
        tf.saved_model.save(module, str(path), signatures, options)
    except (AssertionError, ValueError, TypeError, tf.errors.OpError) as error:
        raise ConfigError(_FIELD, _NAME, f"cannot save the run: {first_line(error)}") from error


def _traced(
    function: Callable[..., Mapping[str, tf.Tensor]], *specs: tf.TensorSpec, **named: tf.TensorSpec
) -> tf.Graph:
    return tf.function(function, autograph=False).get_concrete_function(*specs, **named)
