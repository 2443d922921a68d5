"""Counts of what a GPU and its host do in a step, from its optimised graph, as a Markdown table with bounds.

python -m tests.benchmarks.launches --check
python -m tests.benchmarks.launches --only=digits_3_fused

No GPU is needed and no step is taken: `graph_kernels` says what counts. The models are that of configs/digits.py, with
more heads like its last one, and ResNet-50; images are small, on which no count depends.
"""

import copy
import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import keras
import tensorflow as tf
from absl import app

from configs import digits
from tests.benchmarks import graph_kernels, ours, resnet50, table
from tests.benchmarks.bounds import Bound, Section
from tests.benchmarks.graph_kernels import COMBINE, UPDATE, Counts
from trainer.components import fused_updates
from trainer.config import loading
from trainer.distributed import strategy as strategy_lib
from trainer.run import experiment

_LOSSES = (3, 10, 40)
_BATCH, _IMAGE, _REPLICAS = 4, 32, 2
_WAYS: Mapping[str, Mapping[str, Any]] = {
    "fused": {"combine": {"name": "sum"}, "reduction": "fused"},
    "per_loss": {"combine": {"name": "pcgrad"}, "reduction": "per_loss"},
    "between": {"combine": {"name": "pcgrad", "update_every": 10}, "reduction": "per_loss"},
    "features": {"combine": {"name": "pcgrad"}, "reduction": "features"},
    "micro_batches": {"combine": {"name": "pcgrad"}, "reduction": "per_loss", "micro_batches": 2},
}
_WORDS = {
    "fused": "`sum`, fused",
    "per_loss": "`pcgrad`, a pass per loss",
    "between": "`pcgrad`, `update_every`: a step between",
    "features": "`pcgrad` at the features",
    "micro_batches": "`pcgrad`, two micro-batches",
}
# Kernels of a step with each loss's gradients of ResNet-50 by themselves, for combining and updating, K = 40.
_ONE_BY_ONE = 122_844
# Kernels of a step at most, by model, number of losses and way.
_KERNELS: Mapping[tuple[str, int, str], int] = {
    ("digits", 3, "fused"): 213,
    ("digits", 3, "per_loss"): 352,
    ("digits", 3, "between"): 241,
    ("digits", 3, "features"): 271,
    ("digits", 3, "micro_batches"): 503,
    ("digits", 10, "fused"): 605,
    ("digits", 10, "per_loss"): 1066,
    ("digits", 10, "between"): 752,
    ("digits", 10, "features"): 712,
    ("digits", 40, "fused"): 2285,
    ("digits", 40, "per_loss"): 4181,
    ("digits", 40, "between"): 2942,
    ("digits", 40, "features"): 2609,
    ("resnet50", 3, "fused"): 2872,
    ("resnet50", 3, "per_loss"): 5232,
    ("resnet50", 3, "between"): 2883,
    ("resnet50", 3, "features"): 2926,
    ("resnet50", 3, "micro_batches"): 10090,
    ("resnet50", 10, "fused"): 3012,
    ("resnet50", 10, "per_loss"): 14150,
    ("resnet50", 10, "between"): 3037,
    ("resnet50", 10, "features"): 3094,
    ("resnet50", 40, "fused"): 3612,
    ("resnet50", 40, "per_loss"): 53469,
    ("resnet50", 40, "between"): 3697,
    ("resnet50", 40, "features"): 3821,
}


def main(argv: Sequence[str]) -> None:
    """Prints the table; progress goes to standard error."""
    del argv
    strategy_lib.build("mirrored", _REPLICAS)  # before TensorFlow runs anything
    table.check(table.run(lambda workers: all_sections(), round_seconds=0))


def all_sections() -> tuple[Section, ...]:
    """A section for each model, number of losses and way to compute; what is slow comes last."""
    found = []
    for model, configuration in _MODELS.items():
        for losses in _LOSSES:
            for way in _WAYS:
                if way != "micro_batches" or losses == _LOSSES[0]:
                    found.append(_section(model, configuration, losses, way))
    return tuple(found)


def _section(model: str, configuration: Callable[[int], dict[str, Any]], losses: int, way: str) -> Section:
    name = f"{model}_{losses}_{way}"
    keys = (*graph_kernels.PARTS, "copies", "host reads", "collectives", "KB", "nodes")

    def measure(wanted: Sequence[str]) -> dict[str, float]:
        config = configuration(losses) | copy.deepcopy(_WAYS[way])
        counts, collectives = counted(config), reduced(config)
        found = {
            **counts.kernels,
            "copies": counts.copies,
            "host reads": counts.predicates,
            "collectives": len(collectives),
            "KB": sum(collectives) / 1000,
            "nodes": counts.nodes,
        }
        return {key: found[key] for key in wanted}

    what = f"kernels of a step, {_WORDS[way]}, K = {losses}"

    def total(numbers: Mapping[str, float]) -> float:
        return sum(numbers[part] for part in graph_kernels.PARTS)

    bounds = [Bound(name, what, keys, total, "≤", _KERNELS.get((model, losses, way)))]
    if (model, losses, way) == ("resnet50", 40, "per_loss"):
        bounds.append(
            Bound(
                f"{model}_{losses}_combining",
                f"of these for combining and updating: {_ONE_BY_ONE:,} one by one / now",
                (COMBINE, UPDATE),
                lambda numbers: _ONE_BY_ONE / (numbers[COMBINE] + numbers[UPDATE]),
                "≥",
                20,
            )
        )
    return Section(name, tuple(bounds), measure, unit="")


def _digits(losses: int) -> dict[str, Any]:
    """The default configuration with this many losses, those that are more like its last one."""
    config = digits.get_config().to_dict()
    heads, last = config["model"]["heads"], list(config["losses"])[-1]
    for k in range(len(config["losses"]), losses):
        heads[f"head_{k}"] = copy.deepcopy(heads[config["losses"][last]["head"]])
        config["losses"][f"loss_{k}"] = {**copy.deepcopy(config["losses"][last]), "head": f"head_{k}"}
    return config


def _resnet50(losses: int) -> dict[str, Any]:
    config = resnet50.get_config(_IMAGE, losses).to_dict()
    config["dataset"]["options"]["examples"] = _BATCH
    return config


_MODELS = {"digits": _digits, "resnet50": _resnet50}


def counted(config: Mapping[str, Any]) -> Counts:
    """The counts of an ordinary step on one GPU."""
    return graph_kernels.of_function(_traced(config, tf.distribute.get_strategy()))


def reduced(config: Mapping[str, Any]) -> list[int]:
    """Bytes that one of two replicas hands to each collective of an ordinary step."""
    function = _traced(config, strategy_lib.build("mirrored", _REPLICAS))
    return graph_kernels.collectives(function.graph)[::_REPLICAS]


def _traced(config: Mapping[str, Any], strategy: tf.distribute.Strategy) -> tf.types.experimental.ConcreteFunction:
    """The loop over steps none of which measures for a report, as on GPUs."""
    keras.backend.clear_session()
    gc.collect()  # variables of the row before
    with (
        mock.patch.object(strategy_lib, "_device_type", return_value="GPU"),
        mock.patch.object(fused_updates, "_takes_longer_in_one", return_value=False),  # what CPUs need
    ):
        built = experiment.build(loading.resolve({**config, "batch_size": _BATCH}), strategy)
        return ours.traced(built)


if __name__ == "__main__":
    app.run(main)
