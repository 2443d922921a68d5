"""Counts of what a GPU and its host have to do in a traced step: kernels, copies, predicates.

Nothing runs and no GPU is needed: the graph is optimised for a virtual one, every operation is placed where TensorFlow
has a kernel for it, and what such a kernel reads from the host's memory is taken from there. What is approximated:

- An operation with a kernel for GPUs counts as one kernel; of some TensorFlow launches several. Operations that give a
  tensor another name or shape count as none.
- A loop's body counts as often as it runs where the graph says how often, else once: of a loop over steps one step, of
  a solver's loop one iteration.
- Of a condition the branch counts that is taken where it holds.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, device_properties_pb2  # these and the next ones have no public names
from tensorflow.python.framework import kernels, op_def_registry
from tensorflow.python.grappler import cluster, tf_optimizer

PASSES, REDUCE, COMBINE, UPDATE = PARTS = "passes", "reduce", "combine", "update"
_GPU, _CPU = "GPU", "CPU"
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_LOOPS, _CONDITIONS = {"While", "StatelessWhile"}, {"If", "StatelessIf"}
_LOWERED = "_lower_using_switch_merge"
_NAMES_ONLY = {
    *("Const", "EnsureShape", "ExpandDims", "Identity", "IdentityN", "NoOp", "Placeholder", "PreventGradient"),
    *("ReadVariableOp", "Reshape", "Squeeze", "StopGradient"),
}
_ALWAYS_ON_HOST = {dtype.as_datatype_enum for dtype in (tf.resource, tf.string)}


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of one step.

    Attributes:
      kernels: on the GPU, by part of the step: a name scope of the trainer's, else `passes`.
      copies: of tensors from the GPU's memory to the host's or back.
      predicates: of conditions and loops, which the host reads before it starts more.
      nodes: of the graph, each once.
    """

    kernels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    copies: int = 0
    predicates: int = 0
    nodes: int = 0

    def plus(self, other: "Counts", times: int = 1) -> "Counts":
        """These counts and `times` those of a part; its nodes are there once."""
        parts = {part: self.kernels.get(part, 0) + times * other.kernels.get(part, 0) for part in PARTS}
        copies, predicates = self.copies + times * other.copies, self.predicates + times * other.predicates
        return Counts(parts, copies, predicates, self.nodes + other.nodes)


class _Placed(NamedTuple):
    """A node's place: on the GPU or not, which of its arguments are in the host's memory, and if it starts a kernel."""

    on_gpu: bool
    on_host: frozenset[str] = frozenset()
    starts: bool = False


class _Function(NamedTuple):
    """A function of the library, or the graph itself."""

    nodes: Sequence[Any]
    arguments: Mapping[str, int]  # data types by name


def of_function(function: tf.types.experimental.ConcreteFunction) -> Counts:
    """The counts of a traced function, whose loop over steps counts as one step."""
    optimised = _optimised(function.graph)
    library = {
        own.signature.name: _Function(own.node_def, {each.name: each.type for each in own.signature.input_arg})
        for own in optimised.library.function
    }
    return _Counting(library).of(_Function(optimised.node, {}), PASSES)


def collectives(graph: tf.Graph) -> list[int]:
    """Bytes of each collective in a traced graph, of all replicas that it holds; loops and branches as in `Counts`."""
    found: list[int] = []
    for op in graph.get_operations():
        if op.type.startswith("CollectiveReduce"):
            found.append(op.inputs[0].shape.num_elements() * op.inputs[0].dtype.size)
        attribute = _called(op.type)
        if attribute is not None:
            found += collectives(graph._get_function(op.get_attr(attribute).name).graph)
    return found


def _called(op: str) -> str | None:
    """The attribute of an operation that names the function which counts; None: it calls none."""
    if op in _CALLS:
        return "f"
    if op in _LOOPS:
        return "body"
    return "then_branch" if op in _CONDITIONS else None


@dataclasses.dataclass(frozen=True)
class _Counting:
    library: Mapping[str, _Function]

    def of(self, function: _Function, part: str) -> Counts:
        """Counts of a function that is called within a part of the step."""
        total = Counts(nodes=len(function.nodes))
        placed = {node.name: _placed(node) for node in function.nodes}
        by_name = {node.name: node for node in function.nodes}
        for node in function.nodes:
            own = _part(node.name, part)
            attribute = _called(node.op)
            if attribute is not None:
                body = self.library[node.attr[attribute].func.name]
                total = total.plus(self.of(body, own), self._runs(node, by_name))
                total = total.plus(Counts(predicates=int(node.op not in _CALLS)))
            elif placed[node.name].starts:
                total = total.plus(Counts({own: 1}))
            total = total.plus(Counts(copies=_copies(node, placed, by_name, function.arguments)))
        return total

    def _runs(self, node: Any, by_name: Mapping[str, Any]) -> int:
        """The number of times that a node's function runs: that of a loop if its condition holds it, else 1."""
        if node.op not in _LOOPS:
            return 1
        condition = self.library[node.attr["cond"].func.name]
        less = [each for each in condition.nodes if each.op == "Less"]
        if len(less) != 1 or {each.op for each in condition.nodes} - {"Less", "Const", "Identity"}:
            return 1
        counter, limit = (name.split(":")[0] for name in less[0].input)
        limits = {each.name: each for each in condition.nodes if each.op == "Const"}
        if limit not in limits or counter not in condition.arguments:
            return 1
        start = by_name.get(node.input[list(condition.arguments).index(counter)].split(":")[0])
        return int(_value(limits[limit]) - _value(start)) if start is not None and start.op == "Const" else 1


def _value(constant: Any) -> Any:
    """The number that a node `Const` holds."""
    return tf.make_ndarray(constant.attr["value"].tensor)


def _part(name: str, outer: str) -> str:
    """The part of the step that a node's innermost name scope of the trainer's stands for."""
    for scope in reversed(name.split("/")[:-1]):
        part = re.sub(r"_\d+$", "", scope)
        if part in PARTS:
            return part
    return outer


def _copies(node: Any, placed: Mapping[str, _Placed], by_name: Mapping[str, Any], arguments: Mapping[str, int]) -> int:
    """The number of a node's inputs that are in the other memory than the node wants them in."""
    if _called(node.op) is not None:
        return 0
    count = 0
    wanted = _arguments(op_def_registry.get(node.op).input_arg, node)
    for name, (argument, dtype) in zip((name for name in node.input if name[0] != "^"), wanted, strict=True):
        if dtype in _ALWAYS_ON_HOST:
            continue
        source, *output = name.split(":")
        if source in arguments or _called(by_name[source].op) is not None:
            there = dtype == tf.int32.as_datatype_enum
        else:
            there = _on_host(by_name[source], placed[source], output)
        count += there != _wants_on_host(placed[node.name], argument)
    return count


def _wants_on_host(place: _Placed, argument: str) -> bool:
    return not place.on_gpu or argument in place.on_host


def _on_host(node: Any, place: _Placed, output: Sequence[str]) -> bool:
    """True if an output, named as graphs or functions name it, is in the host's memory."""
    names = [argument for argument, _ in _arguments(op_def_registry.get(node.op).output_arg, node)]
    name = output[0] if output and not output[0].isdigit() else names[int(output[0]) if output else 0]
    return _wants_on_host(place, name)


def _arguments(definitions: Sequence[Any], node: Any) -> Iterator[tuple[str, int]]:
    """Name and data type of each input or output of a node."""
    for definition in definitions:
        if definition.type_list_attr:
            yield from ((definition.name, dtype) for dtype in node.attr[definition.type_list_attr].list.type)
        else:
            dtype = definition.type or node.attr[definition.type_attr].type
            count = node.attr[definition.number_attr].i if definition.number_attr else 1
            yield from ((definition.name, dtype) for _ in range(count))


def _placed(node: Any) -> _Placed:
    """The place of a node: where it was put, or the GPU if TensorFlow has a kernel for its data types there."""
    if _called(node.op) is not None or _CPU in node.device:
        return _Placed(False)
    for kernel in _kernels(node.op):
        if all(node.attr[each.name].type in each.allowed_values.list.type for each in kernel.constraint):
            on_host = frozenset(kernel.host_memory_arg)
            outputs = {argument for argument, _ in _arguments(op_def_registry.get(node.op).output_arg, node)}
            starts = node.op not in _NAMES_ONLY and (not outputs or bool(outputs - on_host))
            return _Placed(True, on_host, starts)
    return _Placed(False)


@functools.cache
def _kernels(op: str) -> Sequence[Any]:
    """TensorFlow's kernels of an operation for GPUs, those for any device last."""
    found = kernels.get_registered_kernels_for_op(op).kernel
    return [kernel for kind in (_GPU, "DEFAULT") for kernel in found if kernel.device_type == kind]


def _optimised(graph: tf.Graph) -> Any:
    """The graph as TensorFlow would optimise it for a GPU, loops and conditions left as they are."""
    definition = graph.as_graph_def()
    for node in (*definition.node, *(node for own in definition.library.function for node in own.node_def)):
        if _LOWERED in node.attr:
            node.attr[_LOWERED].b = False
    with graph.as_default():
        described = tf.compat.v1.train.export_meta_graph(graph_def=definition, graph=graph)
    described.collection_def["train_op"].node_list.value.extend(output.name for output in graph.outputs)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    return tf_optimizer.OptimizeGraph(config, described, cluster=cluster.Cluster(devices=_devices()))


def _devices() -> list[Any]:
    """A host and a GPU."""
    found = []
    for kind, units in ((_CPU, 8), (_GPU, 132)):
        device = device_properties_pb2.NamedDevice(name=f"/job:localhost/replica:0/task:0/device:{kind}:0")
        device.properties.type, device.properties.num_cores, device.properties.frequency = kind, units, 1700
        device.properties.memory_size = 64 << 30
        found.append(device)
    found[-1].properties.environment["architecture"] = "9.0"
    return found
