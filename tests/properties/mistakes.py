"""Valid configurations, and what people get wrong in them."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from math import inf, nan
from random import Random
from types import ModuleType
from typing import Any

import keras
from hypothesis import strategies as st

from configs import digits
from tests import problems
from trainer.components import keras_objects

# ---------------------------------------------------------------------------------------------------------------------
# Valid configurations.
# ---------------------------------------------------------------------------------------------------------------------


def _two_losses(**changes: Any) -> dict[str, Any]:
    """The problem with two of its losses, so that a step is traced quickly."""
    tree = problems.tree(**changes)
    for name in ("vector", "vector_l1"):
        del tree["losses"][name]
    del tree["model"]["heads"]["vector"]
    return tree


_COSINE = {"name": "cosine_decay", "initial_learning_rate": 0.0, "warmup_target": 3e-3, "warmup_steps": "1 epoch"}
_PIECEWISE = {"name": "piecewise_constant_decay", "boundaries": [2, "3 epochs"], "values": [1.0, 0.5, 0.1]}
_EXPONENTIAL = {"name": "exponential_decay", "initial_learning_rate": 0.1, "decay_steps": "1 epoch", "decay_rate": 0.9}
_CONVOLUTIONS = [
    {"layer": "Reshape", "target_shape": [6, 1]},
    {"layer": "Conv1D", "filters": 3, "kernel_size": 3, "padding": "same", "activation": "relu"},
    {"layer": "BatchNormalization", "momentum": 0.9, "synchronized": True},
    {"layer": "MaxPooling1D", "pool_size": 2},
    {"layer": "Dropout", "rate": 0.1},
    {"layer": "Flatten"},
    {"layer": "Dense", "units": 5, "kernel_initializer": "he_normal", "kernel_regularizer": "l2"},
]
BASES = {
    "schedules": _two_losses(
        losses__label__optimizer={"name": "adamw", "learning_rate": _COSINE, "weight_decay": 1e-3},
        losses__number__optimizer={"name": "sgd", "learning_rate": _EXPONENTIAL, "momentum": 0.9, "nesterov": True},
        losses__label__weight=_PIECEWISE,
        shared_optimizer={"name": "adam", "learning_rate": _PIECEWISE, "beta_1": 0.8, "epsilon": 1e-6},
        clip_norm=5.0,
    ),
    "losses and metrics": _two_losses(
        losses__number__loss={"name": "huber", "delta": 2.0},
        losses__number__metrics=["mae", {"name": "r2_score", "as": "r2"}, "root_mean_squared_error"],
        losses__label__metrics=["accuracy", {"name": "sparse_top_k_categorical_accuracy", "k": 2}],
        precision="float32",
        losses__number__normalizer="examples",
        dataset__options={"examples": 40, "missing": True},
    ),
    "turns": _two_losses(
        losses__label__every=3,
        losses__label__offset=1,
        losses__number__variables=["trunk_*", "head_number*"],
        combine={"name": "pcgrad", "use_weights": True},
        seed=7,
        steps_per_loop=2,
    ),
    "per loss": _two_losses(
        combine={"name": "normalized", "apply": "per_loss", "normalized": {"per_variable": True}},
        losses__number__weight={"name": "polynomial_decay", "initial_learning_rate": 1.0, "decay_steps": 10},
        precision="float32",
    ),
    "intervals": _two_losses(
        best={"metric": "number/mae", "mode": "min"},
        early_stopping={"metric": "{loss/label} - 2 * {loss/number}", "mode": "min", "patience": 2, "min_delta": 0.01},
        reduce_on_plateau={"metric": "loss/label", "factor": 0.5, "patience": 2, "cooldown": 1, "minimum": 1e-5},
        learning_rate_factors={"trunk_*": 0.1, "head_label*": 2},
        ema=0.9,
        checkpoint_every="2 epochs",
        keep_checkpoints=2,
        report_every="50 examples",
        eval_every=4,
    ),
    "layers": _two_losses(model__trunk=_CONVOLUTIONS),
    "a model of one's own": problems.tree(
        model={"name": "tests.problems:two_towers", "options": {"width": 3}}, combine={"name": "independent"}
    ),
    "digits": digits.get_config().to_dict() | {"batch_size": 8},
}


# ---------------------------------------------------------------------------------------------------------------------
# What people get wrong.
# ---------------------------------------------------------------------------------------------------------------------

# No size that could be allocated is large: 2^62 of anything cannot, on any machine.
VALUES = (
    [None, True, False, 0, 1, 2, -1, -3, 0.5, -0.5, 1.5, 2**62, 2**63, -(2**70), 1e-320, 1e300, inf, -inf, nan]
    + ["", " ", "1", "-1", "nan", "None", "nothing", "mse", "adam", "relu", "Dense", "math:pi", "nowhere:load", ":"]
    + ["é", "名", "\n", "a\nb", "\x00", "\udcff", "x" * 5000, "../..", "{}", "%s", "[bold]", "1 epoch", "2 weeks"]
    + [[], [None], [1], [1, 2], [[1]], ["mae", "mae"], ["mse", 5], [{}], (), (3,), (2, 3), b"bytes", b"", set(), 1j]
    + [{}, {"name": None}, {"name": "adam"}, {"name": "mse", "x": 1}, {"layer": "Flatten"}, {"": 1}, {1: 2}, {None: {}}]
    + [{"name": "cosine_decay", "initial_learning_rate": 1.0}, {"a": {"b": {"c": [{}]}}}]
)
_SIZES = [
    0,
    1,
    2,
    3,
    -1,
    7.0,
    2.5,
    "3",
    True,
    None,
    2**62,
    2**80,
    [],
    [2],
    [3, 3],
    [1, 2, 3],
    [0],
    [-1],
    [-1, -1],
    (6,),
] + [(None,), [[2]], ["a"], [2**62], [1.5], nan, inf]
_SIZE_KEYS = ("units", "filters", "kernel_size", "target_shape", "pool_size", "width", "examples", "batch_size", "k")
_KEYS = (
    ["", " ", "nothing", "Name", "é", "a b", "a.b", "1", "\n", "x" * 5000, 5, None, ("a",), "name", "layer", "weights"]
    + ["learning_rate", "learning_rates", "weight_decay", "clipnorm", "use_ema", "ema_momentum", "loss_scale_factor"]
    + ["gradient_accumulation_steps", "momentum", "beta_1", "epsilon", "amsgrad", "decay_steps", "boundaries", "values"]
    + ["reduction", "from_logits", "ignore_class", "axis", "label_smoothing", "delta", "fn", "class_aggregation", "as"]
    + ["dtype", "trainable", "activation", "use_bias", "kernel_regularizer", "kernel_constraint", "bias_initializer"]
    + ["activity_regularizer", "input_shape", "batch_size", "units", "padding", "strides", "seed", "call"]
    + ["weight", "every", "offset", "variables", "normalizer", "metrics", "optimizer", "head", "best", "ema", "options"]
    + ["data_dir", "trunk", "heads", "pcgrad", "normalized", "apply", "staircase", "alpha", "warmup_target", "power"]
)

Path = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Case:
    """A configuration and what is wrong with it, in words."""

    tree: dict[str, Any]
    mistakes: tuple[str, ...]


def _replace(random: Random, tree: dict[str, Any]) -> str:
    path = random.choice(places(tree))
    return _set(tree, path, random.choice(VALUES))


def _resize(random: Random, tree: dict[str, Any]) -> str:
    sizes = [path for path in places(tree) if path[-1] in _SIZE_KEYS]
    return _set(tree, random.choice(sizes or places(tree)), random.choice(_SIZES))


def _relist(random: Random, tree: dict[str, Any]) -> str:
    path = random.choice([path for path in places(tree) if isinstance(_node(tree, path), list)] or places(tree))
    old = _node(tree, path)
    entries = old if isinstance(old, list) else [old]
    changes = [entries[1:], entries[:-1], entries[::-1], entries * 2, [entries], [*entries, None], [*entries, "mse"]]
    return _set(tree, path, random.choice(changes))


def _rename(random: Random, tree: dict[str, Any]) -> str:
    path = random.choice([path for path in places(tree) if isinstance(path[-1], str)])
    key = path[-1]
    new = random.choice([key[1:], f"{key}s", key.upper(), f" {key}", key[::-1], f"{key}\n", random.choice(_KEYS)])
    node = _node(tree, path[:-1])
    entries = [(new if at == key else at, value) for at, value in node.items()]
    node.clear()
    node.update(entries)
    return f"{path} is called {new!r}"


def _drop(random: Random, tree: dict[str, Any]) -> str:
    path = random.choice(places(tree))
    del _node(tree, path[:-1])[path[-1]]
    return f"{path} is missing"


def _add(random: Random, tree: dict[str, Any]) -> str:
    path = random.choice([(), *(path for path in places(tree) if isinstance(_node(tree, path), dict))])
    return _set(tree, (*path, random.choice(_KEYS)), random.choice(VALUES))


def _exchange(random: Random, tree: dict[str, Any]) -> str:
    """A value in the place of another: names of heads, targets, layers and losses, branches of one key or parent."""
    path = random.choice(places(tree))
    value = _node(tree, path)
    alike = [
        other
        for other in places(tree)
        if type(_node(tree, other)) is type(value)
        and (isinstance(value, str) or other[-1] == path[-1] or other[:-1] == path[:-1])
    ]
    return _set(tree, path, _node(tree, random.choice(alike)))


def _another_name(random: Random, tree: dict[str, Any]) -> str:
    """Another layer, loss, metric, optimizer or schedule of Keras; it may not take the arguments or fit in there."""
    path, module = random.choice(_named(tree))
    return _set(tree, path, random.choice([name for name, value in vars(module).items() if inspect.isclass(value)]))


def _another_argument(random: Random, tree: dict[str, Any]) -> str:
    """An argument that Keras does know, with whatever value."""
    path, module = random.choice(_named(tree))
    classes = {keras_objects.snake(name): value for name, value in vars(module).items() if inspect.isclass(value)}
    found = classes.get(keras_objects.snake(_node(tree, path)), keras.layers.Dense)
    arguments = [*inspect.signature(found).parameters, "dtype", "trainable", "name"]
    return _set(tree, (*path[:-1], random.choice(arguments)), random.choice(VALUES))


def _named(tree: dict[str, Any]) -> list[tuple[Path, ModuleType]]:
    """Paths to names of Keras' objects, each with the module that has the object."""
    return [
        (path, next(module for key, module in _MODULES.items() if key in path))
        for path in places(tree)
        if path[-1] in ("name", "layer") and isinstance(_node(tree, path), str) and not {*path}.isdisjoint(_MODULES)
    ] or [(("shared_optimizer", "name"), keras.optimizers)]


_MODULES = {
    "trunk": keras.layers,
    "heads": keras.layers,
    "loss": keras.losses,
    "metrics": keras.metrics,
    "weight": keras.optimizers.schedules,
    "learning_rate": keras.optimizers.schedules,
    "optimizer": keras.optimizers,
    "shared_optimizer": keras.optimizers,
}
_MISTAKES = (
    _replace,
    _replace,
    _resize,
    _relist,
    _rename,
    _drop,
    _add,
    _exchange,
    _another_name,
    _another_argument,
)


@st.composite
def cases(draw: Callable, base: dict[str, Any]) -> Case:
    """`base` with one to three mistakes."""
    # Not one draw for every choice: hypothesis would then come back to the same few mistakes again and again.
    random = draw(st.randoms(use_true_random=True))
    tree, mistakes = _copy(base), []
    for _ in range(random.choice((1, 1, 2, 3))):
        mistakes.append(random.choice(_MISTAKES)(random, tree))
    return Case(tree, tuple(mistakes))


def _set(tree: dict[str, Any], path: Path, value: Any) -> str:
    _node(tree, path[:-1])[path[-1]] = _copy(value)
    return f"{path} is {value!r}"


def _copy(value: Any) -> Any:
    """A copy that shares no dictionary or list, neither with `value` nor within itself."""
    if isinstance(value, dict):
        return {key: _copy(entry) for key, entry in value.items()}
    return [_copy(entry) for entry in value] if isinstance(value, list) else value


def places(tree: dict[str, Any]) -> list[Path]:
    return list(_below(tree, ()))


def _below(node: Any, at: Path) -> Iterator[Path]:
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in entries:
        yield (*at, key)
        yield from _below(value, (*at, key))


def _node(tree: dict[str, Any], path: Path) -> Any:
    node = tree
    for key in path:
        node = node[key]
    return node
