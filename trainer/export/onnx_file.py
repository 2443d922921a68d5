"""An ONNX file that takes prepared numbers and gives what each loss makes of the heads."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import tf2onnx

from trainer.common.errors import ConfigError, RunError, reason_of
from trainer.export import converters, frozen
from trainer.export.trained import Trained

_FORMAT = "onnx"
_BATCH = "batch"


def write(trained: Trained, path: pathlib.Path) -> None:
    """Writes the file, for any number of examples.

    Raises:
      ConfigError: the model calls Python or draws random numbers.
      RunError: the converter cannot convert it.
    """
    try:
        with converters.quiet():
            function = frozen.function(trained, list(trained.inputs), _FORMAT, whole=False)
            converted, _ = tf2onnx.convert.from_function(
                function, function.input_signature, custom_op_handlers=_OPERATIONS
            )
        for each in (*converted.graph.input, *converted.graph.output):
            each.type.tensor_type.shape.dim[0].dim_param = _BATCH
        onnx.save(converted, path)
    except (ConfigError, OSError):
        raise
    except Exception as error:
        raise RunError(f"--format={_FORMAT}: the converter cannot convert the model: {reason_of(error)}") from error


def calls(trained: Trained, name: str) -> list[str]:
    """Lines of Markdown: how a file of this name is called from Python."""
    given = ", ".join(f"{each!r}: ..." for each in trained.inputs)
    return [
        "It takes any number of examples; the model computes in float32.",
        "",
        "```python",
        "import onnxruntime",
        "",
        f"session = onnxruntime.InferenceSession({name!r})",
        "print([(each.name, each.type, each.shape) for each in session.get_inputs()])",
        "names = [each.name for each in session.get_outputs()]",
        f"outputs = dict(zip(names, session.run(names, {{{given}}})))",
        "```",
    ]


def _complement(context: Any, node: Any, name: str, arguments: Any, **_: Any) -> None:
    """1 - Erf, the complementary error function of Keras' `gelu`."""
    _with_one(context, node, name, "Erf", lambda one, values: [one, values])


def _less_one(context: Any, node: Any, name: str, arguments: Any, **_: Any) -> None:
    """Exp - 1, which undoes the logarithm of a target."""
    _with_one(context, node, name, "Exp", lambda one, values: [values, one])


def _with_one(context: Any, node: Any, name: str, kind: str, order: Callable[[str, str], list[str]]) -> None:
    """Makes a node one of another kind, and of its output and 1 the difference."""
    node.type = kind
    output = node.output[0]
    consumers, dtype = context.find_output_consumers(output), context.get_dtype(output)
    one = context.make_const(f"{name}_one", np.array(1, onnx.helper.tensor_dtype_to_np_dtype(dtype)))
    difference = context.make_node(
        "Sub", order(one.output[0], output), shapes=[context.get_shape(output)], dtypes=[dtype]
    )
    for each in consumers:
        context.replace_input(each, output, difference.output[0])


# Operations of TensorFlow that ONNX has not, and tf2onnx does not know of.
_OPERATIONS = {"Erfc": (_complement, []), "Expm1": (_less_one, [])}
