"""A trained run as one function of prepared numbers, with its variables as constants, for other runtimes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, graph_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from trainer.export import foreign_operations
from trainer.export.trained import Trained

_SINGLE = tf.float32.as_datatype_enum
_OTHERS = frozenset(each.as_datatype_enum for each in (tf.float64, tf.float16, tf.bfloat16))


def function(trained: Trained, names: Sequence[str], name: str, batch: int | None = None, *, whole: bool) -> Any:
    """A `tf.function` of prepared inputs, in the order of `trained.inputs`, to outputs by loss.

    The converters of other formats leave variables unset, and know few operations of other precisions: so the
    variables are constants, and every floating-point number of the model is a float32.

    Args:
      trained: the run.
      names: of the function's arguments.
      name: of the format.
      batch: the number of examples; None: any.
      whole: whether what losses make of the model's heads is of float32, too; else values in their own units are
        computed as the trainer does, in float64.

    Raises:
      ConfigError: the model calls Python or draws random numbers.
    """
    specs = [tf.TensorSpec((batch, *spec.shape[1:]), spec.dtype) for spec in trained.inputs.values()]

    def heads(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return trained.call(dict(zip(trained.inputs, inputs, strict=True)))

    def by_loss(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return trained.by_loss(heads(*inputs))

    single = _in_single(by_loss if whole else heads, specs, name)
    called = [tf.TensorSpec(spec.shape, _single(spec.dtype), each) for spec, each in zip(specs, names, strict=True)]
    answer = single if whole else lambda *inputs: trained.by_loss(single(*inputs))
    return tf.function(answer, input_signature=called, autograph=False)


def _in_single(given: Callable[..., Any], specs: Sequence[tf.TensorSpec], name: str) -> Callable[..., Any]:
    """The same function with constants instead of variables, and float32 instead of other precisions."""
    traced = tf.function(given, input_signature=specs, autograph=False).get_concrete_function()
    foreign_operations.refuse(traced, name)
    outputs = sorted(traced.structured_outputs)  # as a graph orders what a dictionary holds
    constant = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    graph = constant.graph.as_graph_def()
    _to_single(graph)
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    ways = [[tensor.name for tensor in tensors] for tensors in (constant.inputs, constant.outputs)]
    inside = imported.prune(*(tf.nest.map_structure(imported.graph.as_graph_element, way) for way in ways))
    return lambda *inputs: dict(zip(outputs, inside(*inputs), strict=True))


def _single(dtype: tf.DType) -> tf.DType:
    return tf.float32 if dtype.as_datatype_enum in _OTHERS else dtype


def _to_single(graph: graph_pb2.GraphDef) -> None:
    """Makes every number of another precision in a graph a float32."""
    # A process knows a function by its name, and it knows those of the graph before the change.
    names = {each.signature.name: f"{each.signature.name}_single" for each in graph.library.function}
    for each in graph.library.function:
        each.signature.name = names[each.signature.name]
        for argument in (*each.signature.input_arg, *each.signature.output_arg):
            argument.type = _SINGLE if argument.type in _OTHERS else argument.type
    for node in (*graph.node, *(node for each in graph.library.function for node in each.node_def)):
        node.op = names.get(node.op, node.op)
        for value in node.attr.values():
            _value_to_single(value, names)


def _value_to_single(value: attr_value_pb2.AttrValue, names: Mapping[str, str]) -> None:
    """The same of an attribute; `names` are those of functions, before and after."""
    kind = value.WhichOneof("value")
    if kind == "type" and value.type in _OTHERS:
        value.type = _SINGLE
    elif kind == "tensor" and value.tensor.dtype in _OTHERS:
        value.tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(value.tensor).astype("float32")))
    elif kind == "list":
        value.list.type[:] = [_SINGLE if each in _OTHERS else each for each in value.list.type]
    functions = [value.func] if kind == "func" else value.list.func if kind == "list" else []
    for function in functions:
        function.name = names.get(function.name, function.name)
        for each in function.attr.values():
            _value_to_single(each, names)
