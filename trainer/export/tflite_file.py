"""A TensorFlow Lite file that takes prepared numbers and gives what each loss makes of the heads."""

import pathlib
import tempfile
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from trainer.common.errors import ConfigError, RunError, reason_of
from trainer.export import converters, frozen
from trainer.export.trained import Trained

_FORMAT = "tflite"
_SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY


def write(trained: Trained, path: pathlib.Path) -> None:
    """Writes the file; for any number of examples where the converter can do that, else for one at a time.

    TensorFlow Lite's own operations have no lists of tensors whose size is open, which a recurrent layer over any
    number of examples needs.

    Raises:
      ConfigError: the model calls Python or draws random numbers.
      RunError: the converter cannot convert it.
    """
    try:
        content = _converted(trained, None)
    except ConfigError:
        raise
    except Exception:
        try:
            content = _converted(trained, 1)
        except Exception as error:
            raise RunError(f"--format={_FORMAT}: the converter cannot convert the model: {_reason(error)}") from error
    path.write_bytes(content)


def calls(trained: Trained, name: str) -> list[str]:
    """Lines of Markdown: how a file of this name is called from Python."""
    given = ", ".join(f"{each!r}: ..." for each in trained.inputs)
    return [
        "It computes in float32. Where the `shape_signature` of an input begins with -1, it takes any number of",
        "examples; with 1, one at a time.",
        "",
        "```python",
        "import tensorflow as tf",
        "",
        f"runner = tf.lite.Interpreter({name!r}).get_signature_runner()",
        "print(runner.get_input_details())",
        f"outputs = runner(**{{{given}}})",
        "```",
    ]


def _converted(trained: Trained, batch: int | None) -> bytes:
    """The content of the file."""
    # A signature of Python's takes identifiers only; names of inputs may be anything.
    names = {f"input_{place}": name for place, name in enumerate(trained.inputs)}
    module = tf.Module()
    with converters.quiet(), tempfile.TemporaryDirectory(prefix="export_") as folder:
        module.function = frozen.function(trained, list(names), _FORMAT, batch, whole=True)
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, folder, {_SIGNATURE: module.function.get_concrete_function()}, options)
        _rename(pathlib.Path(folder, "saved_model.pb"), names)
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def _rename(path: pathlib.Path, names: dict[str, str]) -> None:
    """Gives the inputs of a SavedModel's signature other names."""
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    inputs = saved.meta_graphs[0].signature_def[_SIGNATURE].inputs
    infos: dict[str, Any] = {name: inputs.pop(old) for old, name in names.items()}
    for name, info in infos.items():
        inputs[name].CopyFrom(info)
    path.write_bytes(saved.SerializeToString())


def _reason(error: Exception) -> str:
    """The converter's reason: the operations that it cannot do, or its last error."""
    operations = sorted({each.operator.name for each in getattr(error, "errors", ()) if each.operator.name})
    if operations:
        return f"TensorFlow Lite has no {', '.join(operations)}"
    errors = [line.rpartition(" error: ")[2] for line in str(error).splitlines() if " error: " in line]
    return reason_of(Exception(errors[-1]) if errors else error)
