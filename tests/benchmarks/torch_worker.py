"""A process that measures PyTorch and TorchJD: python -m tests.benchmarks.torch_worker. Imports no TensorFlow."""

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torchjd import aggregation
from torchjd.autojac import jac_to_grad, mtl_backward

from tests.benchmarks import workers
from tests.benchmarks.problems import Gradients, Problem


def build(problem: Problem, aggregator: str | None = None, parallel_chunk_size: int | None = None) -> Callable:
    """A training loop of the problem.

    Args:
      problem: what to train.
      aggregator: a class of `torchjd.aggregation`, fed by one gradient per loss; None for the summed loss.
      parallel_chunk_size: TorchJD's own option: losses differentiated at once; None for all.

    Returns:
      A function from a number of steps to the seconds they took.
    """
    trunk, features = _trunk(problem)
    heads = torch.nn.ModuleList(torch.nn.Linear(features, width) for width in problem.widths)
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-3)
    aggregate = getattr(aggregation, aggregator)() if aggregator else None
    shared, own = list(trunk.parameters()), [list(head.parameters()) for head in heads]
    batches = _batches(problem)
    cross_entropy, squared = torch.nn.CrossEntropyLoss(), torch.nn.MSELoss()

    def step() -> torch.Tensor:
        inputs, targets = next(batches)
        optimizer.zero_grad()
        hidden = trunk(inputs)
        outputs = [head(hidden) for head in heads]
        losses = [
            (squared if k else cross_entropy)(output, target)
            for k, (output, target) in enumerate(zip(outputs, targets, strict=True))
        ]
        if aggregate is None:
            torch.stack(losses).sum().backward()
        else:
            mtl_backward(
                losses,
                features=hidden,
                tasks_params=own,
                shared_params=shared,
                parallel_chunk_size=parallel_chunk_size,
            )
            jac_to_grad(shared, aggregate)
        optimizer.step()
        return torch.stack(losses).detach()

    def steps(count: int) -> float:
        start = time.perf_counter()
        totals = torch.zeros(problem.heads)
        for _ in range(count):
            totals += step()
        totals.tolist()
        return time.perf_counter() - start

    return steps


def _trunk(problem: Problem) -> tuple[torch.nn.Sequential, int]:
    *size, channels = problem.inputs
    layers: list[torch.nn.Module] = []
    for layer in problem.trunk:
        match layer["layer"]:
            case "Conv2D":
                kernel = layer["kernel_size"]
                layers += [torch.nn.Conv2d(channels, layer["filters"], kernel, padding="same"), torch.nn.ReLU()]
                channels = layer["filters"]
            case "MaxPooling2D":
                layers.append(torch.nn.MaxPool2d(2))
                size = [length // 2 for length in size]
            case "Flatten":
                layers.append(torch.nn.Flatten())
                size, channels = [], channels * size[0] * size[1]
            case "Dense":
                layers += [torch.nn.Linear(channels, layer["units"]), torch.nn.ReLU()]
                channels = layer["units"]
    return torch.nn.Sequential(*layers), channels


def _batches(problem: Problem) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Endless batches, every epoch in another order, images with their channels first."""
    inputs, targets, _ = problem.arrays()
    examples = torch.from_numpy(inputs)
    if examples.ndim > 2:
        examples = examples.movedim(-1, 1).contiguous()
    labels = [torch.from_numpy(target) for target in targets.values()]
    while True:
        for rows in torch.randperm(problem.examples).split(problem.batch_size):
            yield examples[rows], [label[rows] for label in labels]


def weights(gradients: Gradients, method: str, options: Mapping[str, Any]) -> Callable[[int], float]:
    """Times the way from a Gramian, float32 as PyTorch's gradients are, to an aggregator's own weights."""
    weighting = getattr(aggregation, method)(**options).gramian_weighting
    gramians = [torch.from_numpy(found) for found in gradients.gramians()]
    taken = 0

    def steps(count: int) -> float:
        nonlocal taken
        start = time.perf_counter()
        for _ in range(count):
            weighting(gramians[taken % len(gramians)])
            taken += 1
        return time.perf_counter() - start

    return steps


def aggregated(gradients: Gradients, method: str, options: Mapping[str, Any]) -> Callable[[int], float]:
    """Times the way from the rows of all gradients to the combined one."""
    aggregate, rows = getattr(aggregation, method)(**options), _rows(gradients)

    def steps(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            aggregate(rows)
        return time.perf_counter() - start

    return steps


@functools.cache
def _rows(gradients: Gradients) -> torch.Tensor:
    """One copy for all contenders."""
    return torch.from_numpy(gradients.rows())


_OF_GRADIENTS = {"weights": weights, "aggregated": aggregated}


def main() -> None:
    """Serves with as many threads as there are processors, which is what TensorFlow uses."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    contenders: dict[str, Callable[[int], float]] = {}

    def add(name: str, kind: str, problem: Mapping[str, Any], **options: Any) -> None:
        if kind in _OF_GRADIENTS:
            contenders[name] = _OF_GRADIENTS[kind](Gradients(**problem), **options)
        else:
            contenders[name] = build(Problem(**problem), **options)

    workers.serve({"build": add, "steps": lambda name, count: contenders[name](count)})


if __name__ == "__main__":
    main()
