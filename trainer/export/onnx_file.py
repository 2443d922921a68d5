"""An ONNX file that takes prepared numbers and gives what each loss makes of the heads."""

import pathlib
from typing import Any

import numpy as np
import onnx
import tf2onnx

from trainer.common.errors import ConfigError, RunError, first_line
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
            function = frozen.function(trained, list(trained.inputs), _FORMAT)
            converted, _ = tf2onnx.convert.from_function(
                function, function.input_signature, custom_op_handlers={"Erfc": (_erfc, [])}
            )
        for each in (*converted.graph.input, *converted.graph.output):
            each.type.tensor_type.shape.dim[0].dim_param = _BATCH
        onnx.save(converted, path)
    except (ConfigError, OSError):
        raise
    except Exception as error:
        raise RunError(f"--format={_FORMAT}: the converter cannot convert the model: {first_line(error)}") from error


def calls(trained: Trained, name: str) -> list[str]:
    """Lines of Markdown: how a file of this name is called from Python."""
    given = ", ".join(f"{each!r}: ..." for each in trained.inputs)
    return [
        "It takes any number of examples, and computes in float32.",
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


def _erfc(context: Any, node: Any, name: str, arguments: Any, **_: Any) -> None:
    """Writes the complementary error function of Keras' `gelu` as 1 - Erf, which ONNX has."""
    node.type = "Erf"
    consumers = context.find_output_consumers(node.output[0])
    one = context.make_const(f"{name}_one", np.array(1, np.float32))
    complement = context.make_node("Sub", [one.output[0], node.output[0]])
    for each in consumers:
        context.replace_input(each, node.output[0], complement.output[0])
