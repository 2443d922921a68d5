"""Exports in their own runtimes: what they give is what the trainer gives, and what does not agree does not stay."""

import importlib
import importlib.util
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.common.errors import ConfigError, RunError
from trainer.export import checking, formats, keras_file, own_runtime, tflite_file
from trainer.export.trained import Trained

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
_SLOW = pytest.mark.ci_only


def _of(model: keras.Model, spec: Any, precision: str = "float32") -> Trained:
    return Trained("run", 1, precision, model, spec, {}, None, ())


def _spec(*shape: int | None, dtype: str = "float32") -> tf.TensorSpec:
    return tf.TensorSpec((None, *shape), dtype)


def _pictures() -> Trained:
    inputs = keras.Input((8, 8, 3), name="inputs")
    hidden = keras.layers.Conv2D(4, 3, activation="swish")(inputs)
    hidden = keras.layers.MaxPooling2D()(keras.layers.BatchNormalization()(hidden))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Flatten()(hidden))
    model = keras.Model(inputs, {name: keras.layers.Dense(units)(hidden) for name, units in {"b": 3, "a": 1}.items()})
    return _of(model, _spec(8, 8, 3))


def _several() -> Trained:
    """Inputs whose names no function's arguments can have, a whole number among them, and Keras' own gelu."""
    names = {"speed (m-s)": _spec(2), "class": _spec(dtype="int64"), "2nd": _spec(dtype="int32")}
    sources = {name: keras.Input(each.shape[1:], dtype=each.dtype.name, name=name) for name, each in names.items()}
    embedded = [keras.layers.Embedding(5, 3)(sources[name]) for name in ("class", "2nd")]
    hidden = keras.layers.Dense(7, activation="gelu")(keras.layers.Concatenate()([sources["speed (m-s)"], *embedded]))
    return _of(keras.Model(sources, {"the head/x": keras.layers.Dense(2)(hidden)}), names)


def _recurrent() -> Trained:
    """Steps of which 0 are masked; their number is open."""
    inputs = keras.Input((None,), dtype="int64", name="inputs")
    hidden = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
    hidden = keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True))(hidden)
    outputs = {"steps": keras.layers.Dense(2)(hidden), "whole": keras.layers.GRU(3)(hidden)}
    return _of(keras.Model(inputs, outputs), _spec(None, dtype="int64"))


def _attention() -> Trained:
    inputs = keras.Input((5, 4), name="inputs")
    hidden = keras.layers.LayerNormalization()(keras.layers.MultiHeadAttention(2, 3)(inputs, inputs) + inputs)
    return _of(keras.Model(inputs, {"head": keras.layers.GlobalAveragePooling1D()(hidden)}), _spec(5, 4))


def _set_precision(precision: str, request: pytest.FixtureRequest) -> None:
    before = keras.config.floatx(), keras.config.dtype_policy()
    request.addfinalizer(lambda: (keras.config.set_floatx(before[0]), keras.config.set_dtype_policy(before[1])))
    keras.config.set_floatx("float64" if precision == "float64" else "float32")
    keras.config.set_dtype_policy(precision)


def _examples(made: Trained, count: int) -> dict[str, np.ndarray]:
    random = np.random.RandomState(count)
    shapes = {
        name: [count, *(6 if side is None else side for side in spec.shape[1:])] for name, spec in made.inputs.items()
    }
    return {
        name: random.normal(size=shape).astype(spec.dtype.as_numpy_dtype)
        if (spec := made.inputs[name]).dtype.is_floating
        else random.randint(0, 5, shape).astype(spec.dtype.as_numpy_dtype)
        for name, shape in shapes.items()
    }


def _heads(made: Trained, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    heads = made.call({name: tf.constant(values) for name, values in given.items()})
    return {name: values.numpy() for name, values in heads.items()}


def _written(made: Trained, name: str, folder: pathlib.Path) -> pathlib.Path:
    """The path of what is written in the format `name`."""
    for package in formats.FORMATS[name].packages:
        pytest.importorskip(package)
    path = folder / f"export{formats.FORMATS[name].ending}"
    if name == "tflite":
        tflite_file.write(made, path)
    else:
        from trainer.export import onnx_file

        onnx_file.write(made, path)
    return path


@pytest.mark.parametrize(
    ("name", "make", "precision"),
    [
        ("onnx", _several, "float32"),
        ("tflite", _several, "float32"),
        ("onnx", _pictures, "mixed_bfloat16"),
        pytest.param("tflite", _pictures, "mixed_float16", marks=_SLOW),
        pytest.param("onnx", _pictures, "float64", marks=_SLOW),
        pytest.param("tflite", _attention, "float64", marks=_SLOW),
        pytest.param("onnx", _attention, "float32", marks=_SLOW),
        pytest.param("onnx", _recurrent, "float32", marks=_SLOW),
        pytest.param("tflite", _recurrent, "mixed_bfloat16", marks=_SLOW),
    ],
)
def test_models_of_all_kinds_give_what_they_give_in_the_trainer(name, make, precision, tmp_path, request):
    """For numbers of examples that no file was made for, and in float32 whatever the model computes in."""
    _set_precision(precision, request)
    keras.utils.set_random_seed(3)
    made = make()
    if precision == "float64":
        made = _of(made.model, tf.nest.map_structure(lambda each: tf.TensorSpec(each.shape, "float64"), made.spec))
    run = own_runtime.RUNTIMES[name][0]
    path = _written(made, name, tmp_path)
    for count in (1, 5):
        given = _examples(made, count)
        expected = _heads(made, given)
        found = run(str(path), given, {})
        assert set(found) == set(expected)
        for head, values in expected.items():
            assert found[head].dtype == np.float32
            tolerance = 0.02 if "16" in precision else 1e-6
            np.testing.assert_allclose(found[head], values, rtol=tolerance, atol=tolerance)


def test_an_invalid_graph_that_a_converter_writes_without_failing_is_caught(tmp_path):
    """A lookup of text, which ONNX has no operation for: the converter logs that, and writes the file."""
    tf2onnx = pytest.importorskip("tf2onnx")
    keys = tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64))
    table = tf.lookup.StaticHashTable(keys, 0)
    function = tf.function(lambda text: {"number": table.lookup(text)}, input_signature=[_spec(dtype="string")])
    path = tmp_path / "export.onnx"
    tf2onnx.convert.from_function(function, function.input_signature, output_path=str(path))
    assert path.stat().st_size > 0
    given = {"text": np.array([b"a", b"c"], object)}
    with pytest.raises(RunError, match=r"^--format=onnx: .*own runtime cannot run it: .*LookupTableFind") as caught:
        checking.check("onnx", path, given, {"number": np.array([1, 0])}, "float32")
    assert "\n" not in str(caught.value)


@pytest.mark.ci_only
def test_variables_that_a_converter_leaves_unset_are_caught(tmp_path, request):
    """A file of TensorFlow Lite, made of a model without its variables as constants, gives NaN without a word."""
    _set_precision("float32", request)
    made = _attention()
    function = tf.function(lambda given: made.call({"inputs": given}), input_signature=[made.spec])
    module = tf.Module()
    module.function, module.model = function, made.model
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    path = tmp_path / "export.tflite"
    path.write_bytes(converter.convert())
    given = _examples(made, 2)
    with pytest.raises(RunError, match=r"^--format=tflite: the export was removed, "):
        checking.check("tflite", path, given, _heads(made, given), "float32")


_EXPECTED = {
    "value": np.array([1000.0, 1.0, np.nan]),
    "class": np.array([b"x", b"x", b"z"], object),
    "class/probability": np.array([[0.9, 0.1], [0.5 + 6e-7, 0.5 - 6e-7], [0.1, 0.9]]),
}


@pytest.mark.parametrize(
    ("given", "precision", "reason"),
    [
        ({"value": None}, "float32", "output 'value' is missing among what the export gives, class"),
        ({"value": np.ones(2)}, "float32", r"'value' has the shape \(2,\) instead of \(3,\)"),
        (
            {"value": np.array([1000.0, 1.003, np.nan])},
            "float32",
            r"differs by 3e-06 .*, allowed are 1e-06 \(--tolerance\)",
        ),
        ({"value": np.array([1000.0, 1.0, 1.0])}, "mixed_float16", "differs by inf"),
        ({"class": np.array([b"y", b"x", b"z"], object)}, "float32", r"'class' is b'y' instead of b'x' at \(0,\)"),
    ],
)
def test_what_does_not_agree_is_named(given, precision, reason, monkeypatch):
    found = {name: values for name, values in {**_EXPECTED, **given}.items() if values is not None}
    monkeypatch.setattr(checking, "_run", lambda *_: found)
    with pytest.raises(RunError, match=reason):
        checking.check("onnx", pathlib.Path("export.onnx"), {}, _EXPECTED, precision)


def test_rounding_is_no_disagreement(monkeypatch):
    """Relative to the largest number; and of two classes that are as probable, either will do."""
    found = {**_EXPECTED, "value": np.array([1000.0, 1.0003, np.nan]), "class": np.array([b"x", b"y", b"z"], object)}
    monkeypatch.setattr(checking, "_run", lambda *_: found)
    assert checking.check("onnx", pathlib.Path("export.onnx"), {}, _EXPECTED, "float32") == pytest.approx(3e-7)
    monkeypatch.setattr(checking, "_run", lambda *_: {**_EXPECTED, "value": np.array([1000.0, 16.0, np.nan])})
    assert checking.check("onnx", pathlib.Path("export.onnx"), {}, _EXPECTED, "mixed_bfloat16") == pytest.approx(0.015)


_HALVED = """
import keras


class Halved(keras.layers.Layer):
    def call(self, given):
        return given / 2
"""


@pytest.mark.ci_only
def test_keras_gets_layers_of_the_users_own(tmp_path, monkeypatch):
    """Of which nobody has told Keras."""
    (tmp_path / "layers_of_a_user.py").write_text(_HALVED)
    monkeypatch.syspath_prepend(tmp_path)
    inputs = keras.Input((2,), name="inputs")
    halved = importlib.import_module("layers_of_a_user").Halved()
    made, path = _of(keras.Model(inputs, {"half": halved(inputs)}), _spec(2)), tmp_path / "export.keras"
    keras_file.write(made, path)
    given = _examples(made, 3)
    expected = {"half": given["inputs"] / 2}
    assert checking.check("keras", path, given, expected, "float32", needs=keras_file.needs(made)) == 0
    assert "from layers_of_a_user import Halved" in keras_file.calls(made, path.name)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    """Before anything else is done."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    with pytest.raises(
        ConfigError, match=r"^--format='onnx': needs the package (onnxruntime|tf2onnx|onnx): .*\[onnx\]'$"
    ):
        formats.check("onnx")
