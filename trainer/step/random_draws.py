"""Random numbers that a model and its losses draw: who draws any, and what no resumed run can draw again."""

import contextlib
import pathlib
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from trainer.common.errors import ConfigError

# TensorFlow's operations that draw from a state of their own, which no checkpoint holds.
_STATEFUL = {
    *("RandomStandardNormal", "RandomUniform", "RandomUniformInt", "TruncatedNormal", "ParameterizedTruncatedNormal"),
    *("RandomGamma", "RandomPoisson", "RandomPoissonV2", "Multinomial", "RandomShuffle", "RandomCrop"),
    *("RngReadAndSkip", "RngSkip", "StatefulRandomBinomial", "StatefulStandardNormal", "StatefulStandardNormalV2"),
    *("StatefulTruncatedNormal", "StatefulUniform", "StatefulUniformFullInt", "StatefulUniformInt"),
    *("SampleDistortedBoundingBox", "SampleDistortedBoundingBoxV2", "UniformCandidateSampler"),
    *("LogUniformCandidateSampler", "LearnedUnigramCandidateSampler", "FixedUnigramCandidateSampler"),
    "ThreadUnsafeUnigramCandidateSampler",
}
# Operations that run functions in which others may stand; without state they can hold none of the above.
_OF_FUNCTIONS = ("While", "If", "Case", "StatefulPartitionedCall", "PartitionedCall")
_OF_THE_TRAINER = str(pathlib.Path(__file__).parents[1])
_OF_LIBRARIES = (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), "<frozen")


class RandomDraws:
    """Observes a scratch trace.

    Attributes:
      any: whether anything that was traced draws random numbers, from whatever state.
    """

    def __init__(self, model: keras.Model):
        self.any = False
        self._model = model
        self._saved = {id(variable) for variable in model.variables}
        self._found: dict[str, dict[str, str]] = {}  # who draws → from what → where

    @property
    def repeatable(self) -> bool:
        """True where a checkpoint holds all that decides what is drawn next, so that there are no `lines`."""
        return not self._found

    def lines(self) -> list[str]:
        """A line for each layer and loss that draws what no resumed run draws again."""
        return [
            f"{who} draws random numbers by {' and '.join(f'{what}{where}' for what, where in found.items())}, whose "
            f"state no checkpoint holds, so that a resumed run draws others; {_instead(who.startswith('losses.'))}"
            for who, found in self._found.items()
        ]

    @contextlib.contextmanager
    def of_model(self) -> Iterator[None]:
        """Takes what is traced within this context for a layer's, by the name scope in which it stands."""
        with self._observed(self._layer_of):
            yield

    @contextlib.contextmanager
    def of_loss(self, name: str) -> Iterator[None]:
        """Takes what is traced within this context for that of the loss `name`."""
        with self._observed(lambda scope: f"losses.{name}.loss"):
            yield

    @contextlib.contextmanager
    def _observed(self, owner: Callable[[str], str]) -> Iterator[None]:
        graph = tf.compat.v1.get_default_graph()
        first = len(graph.get_operations())

        without_seed = []

        def drawn(generator: keras.random.SeedGenerator, ordered: bool = True) -> None:
            self.any = True
            who = owner(tf.compat.v1.get_default_graph().get_name_scope())
            if not ordered:  # Keras' own generator, which stands in for a seed that is not given
                without_seed.append((who, _place(traceback.extract_stack())))
            elif id(generator.state) not in self._saved:
                self._add(who, "a SeedGenerator that no layer holds", traceback.extract_stack())

        with _generators(drawn):
            yield
        for who, where in without_seed:
            of_loss = who.startswith("losses.")
            raise ConfigError(
                who if of_loss else "model",
                ConfigError.ABSENT if of_loss else self._model.name,
                f"{'' if of_loss else f'{who} '}draws by keras.random without a seed{where}, which cannot be repeated "
                f"on any number of devices; {_instead(of_loss)}",
            )
        nested = None
        for operation in graph.get_operations()[first:]:
            kinds = {operation.type} & _STATEFUL
            if operation.type in _OF_FUNCTIONS:
                nested = _kinds_in_functions(graph) if nested is None else nested
                kinds = nested(_functions(operation.node_def))
            for kind in sorted(kinds):
                self.any = True
                self._add(owner(operation.name), f"TensorFlow's {kind}", operation.traceback)

    def _add(self, who: str, what: str, frames: Sequence[Any]) -> None:
        self._found.setdefault(who, {}).setdefault(what, _place(frames))

    def _layer_of(self, scope: str) -> str:
        """The layer, with those around it, that a name scope belongs to; Keras numbers the scopes of one name."""
        layer, path = self._model, []
        for part in scope.split("/"):
            within = {each.name: each for each in layer._flatten_layers(include_self=False, recursive=False)}
            name = part if part in within else re.sub(r"_\d+$", "", part)
            if name in within:
                layer = within[name]
                path.append(name)
        return f"layer {'/'.join(path)!r}" if path else "the model"


def _instead(of_loss: bool) -> str:
    generator = (
        "keras.random with seed=self.seed_generator, a keras.random.SeedGenerator that the layer makes for itself"
    )
    return f"draw in a layer, by {generator}" if of_loss else f"use {generator}"


@contextlib.contextmanager
def _generators(drawn: Callable[..., None]) -> Iterator[None]:
    """Calls `drawn` with every generator of Keras that is drawn from within this context."""
    original = keras.random.SeedGenerator.next

    def observed(generator: keras.random.SeedGenerator, *args: Any, **kwargs: Any) -> Any:
        drawn(generator, *args, **kwargs)
        return original(generator, *args, **kwargs)

    keras.random.SeedGenerator.next = observed
    try:
        yield
    finally:
        keras.random.SeedGenerator.next = original


def _kinds_in_functions(graph: tf.Graph) -> Callable[[Sequence[str]], set[str]]:
    """A function from names of functions of a graph to the stateful operations in them, however deep."""
    functions = {function.signature.name: function.node_def for function in graph.as_graph_def().library.function}

    def kinds(names: Sequence[str], seen: frozenset[str] = frozenset()) -> set[str]:
        found = set()
        for name in set(names) - seen:
            for node in functions.get(name, ()):
                found |= ({node.op} & _STATEFUL) | kinds(_functions(node), seen | {name})
        return found

    return kinds


def _functions(node: Any) -> list[str]:
    """Names of the functions that a node runs."""
    values = node.attr.values()
    return [value.func.name for value in values if value.HasField("func")] + [
        function.name for value in values for function in value.list.func
    ]


def _place(frames: Sequence[Any]) -> str:
    """` (file:line)` of the user's code that is nearest to the end of a traceback; nothing where there is none."""
    for frame in reversed(frames):
        if frame.filename == __file__:
            continue
        if frame.filename.startswith(_OF_THE_TRAINER):
            break
        if not frame.filename.startswith(_OF_LIBRARIES) and "__autograph_generated" not in frame.filename:
            return f" ({pathlib.Path(frame.filename).name}:{frame.lineno})"
    return ""
