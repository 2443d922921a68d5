"""A SavedModel whose signatures take raw data, as the run's source gives them: the preparation is in the graph."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from input_pipelines import raw_features
from input_pipelines.raw_features import RawFeature
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
    if trained.preparation is not None:
        foreign_operations.refuse_in_preparation(trained.preparation)
    names = trained.names
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


def calls(trained: Trained, output: str) -> list[str]:
    """Lines of Markdown that say how the signatures are called."""
    names = trained.names
    shown = {names[feature]: _example(each) for feature, each in trained.features.items()}
    as_json = {name: value for name, (value, _) in shown.items()}
    as_python = ", ".join(f"{name!r}: {code}" for name, (_, code) in shown.items())
    folder = pathlib.PurePath(output)
    model, version = (folder.parent.name, folder.name) if folder.name.isdecimal() else (folder.name, "1")
    lines = [
        "In Python, with TensorFlow alone:",
        "",
        "```python",
        "import tensorflow as tf",
        "",
        f"model = tf.saved_model.load({output!r})",
        f'answer = model.signatures["{SERVING}"](**{{{as_python}}})',
        "```",
        "",
        f"Of a server (TensorFlow Serving takes the folder as version {version} of `{model}`, below "
        f"`/models/{model}`); pictures are given in Base64, a number that is absent as `NaN`:",
        "",
        "```bash",
        f"curl --data '{json.dumps({'instances': [as_json]})}' http://localhost:8501/v1/models/{model}:predict",
        "```",
    ]
    if not raw_features.can_be_parsed(trained.features):
        return lines
    return [
        *lines,
        "",
        f"The signature `{OF_EXAMPLES}` takes serialized `tf.train.Example`s with the same features, by the names that "
        f"the source has, as `{OF_EXAMPLES}=tf.constant([...])`; what may be absent can be left out.",
    ]


def _example(feature: RawFeature) -> tuple[Any, str]:
    """A value of a feature as JSON has it, and a batch of one as Python does."""
    if feature.picture is not None:
        return {"b64": "..."}, "tf.constant([open('picture.png', 'rb').read()])"
    dtype = feature.spec.dtype
    value = "text" if dtype == tf.string else False if dtype == tf.bool else 0.0 if dtype.is_floating else 0
    shape = [side or 1 for side in feature.spec.shape.as_list()]
    code = f"tf.zeros({[1, *shape]}, tf.{dtype.name})" if shape else f"tf.constant([{value!r}], tf.{dtype.name})"
    for side in reversed(shape):
        value = [value] * min(side, 3)
    return value, code
