"""Operations that an exported graph cannot have: calls of Python, and random numbers."""

from collections.abc import Iterator

from trainer.common.errors import ConfigError

_PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


def refuse(function: object, name: str) -> None:
    """Raises ConfigError where a concrete function, to be exported in the format `name`, has one of them."""
    for node, operation in _nodes(function):
        if operation in _PYTHON:
            reason = f"calls Python (tf.py_function or tf.numpy_function) in {node}, which no other process has"
            raise ConfigError("--format", name, f"the run {reason}; use operations of TensorFlow or Keras there")
        if "Random" in operation and operation != "RandomIndexShuffle":
            reason = f"draws random numbers when it predicts ({operation} in {node})"
            raise ConfigError("--format", name, f"the model {reason}; an export must answer the same each time")


def calls_python(function: object) -> bool:
    """Returns whether a concrete function calls Python."""
    return any(operation in _PYTHON for _, operation in _nodes(function))


def _nodes(function: object) -> Iterator[tuple[str, str]]:
    """(name, type) of every operation, of functions that it calls, too."""
    graph = function.graph.as_graph_def()
    for nodes in (graph.node, *(each.node_def for each in graph.library.function)):
        yield from ((node.name, node.op) for node in nodes)
