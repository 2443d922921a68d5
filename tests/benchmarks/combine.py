"""Combination methods beside TorchJD's and beside bare products of matrices, as a Markdown table with bounds.

python -m tests.benchmarks.combine --check
python -m tests.benchmarks.combine --only=weights --torch_python=/path/to/python
taskset -c 0,1 python -m tests.benchmarks.combine

Both sides use as many threads as there are processors. TorchJD gets the same numbers in float32, as its users have
them; the trainer's methods get its Gramians in float64. Ratios are those of medians of alternating rounds; a bound that
does not hold is measured again, three times at most. TorchJD needs the extra `benchmark`, in this Python or another.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from absl import app

from tests.benchmarks import processes, table, timing
from tests.benchmarks.bounds import Bound, Section
from tests.benchmarks.problems import Gradients
from tests.benchmarks.rounds import Contender, Workers
from tests.benchmarks.workers import WorkerError

_COUNTS = (8, 16, 40)
_PARAMETERS = 10**6
_SAMPLE = 1000  # parameters of the gradients whose Gramians are solved
_PER_CALL = 20
_PACKAGES = ("torch", "torchjd", "cvxpy", "ecos", "scipy", "qpsolvers", "quadprog")
_OURS, _TORCH = "one device", "torch"

Methods = Mapping[str, tuple[str, Mapping[str, Any]]]

# Ours by TorchJD's, with the options that both are given where they have no default in common.
_OF_GRAMIAN: Methods = {
    "mgda": ("MGDA", {}),
    "pcgrad": ("PCGrad", {}),
    "gradvac": ("GradVac", {"beta": 0.5}),
    "cagrad": ("CAGrad", {"c": 0.4}),
    "imtl_g": ("IMTLG", {}),
    "fair_grad": ("FairGrad", {"alpha": 2.0}),
    "aligned_mtl": ("AlignedMTL", {}),
    "dual_proj": ("DualProj", {}),
    "upgrad": ("UPGrad", {}),
}
# TorchJD's Nash-MTL and ConFIG take the matrix alone.
_OF_MATRIX: Methods = {
    "nash_mtl": ("NashMTL", {}),
    "config": ("ConFIG", {}),
}
_OF_ELEMENTS: Methods = {
    "graddrop": ("GradDrop", {}),
    "trimmed_mean": ("TrimmedMean", {"trim_number": 1}),
}
_WITH_GRAMIAN = _OF_GRAMIAN | _OF_MATRIX
_ALL = _WITH_GRAMIAN | _OF_ELEMENTS


def main(argv: Sequence[str]) -> None:
    """Prints the table; progress goes to standard error."""
    del argv
    table.check(table.run(all_sections, _PACKAGES, round_seconds=0.1))


def all_sections(
    workers: Workers,
    counts: Sequence[int] = _COUNTS,
    parameters: int = _PARAMETERS,
    methods: Collection[str] = tuple(_ALL),
) -> tuple[Section, ...]:
    """All sections, their times measured by these workers; the bounds are meant for the default numbers."""
    of_gramian, with_gramian, everything = (
        {name: theirs for name, theirs in known.items() if name in methods}
        for known in (_OF_GRAMIAN, _WITH_GRAMIAN, _ALL)
    )
    dtypes = ("float32", "float64")
    return (
        *(_weights(workers, of_gramian, count) for count in counts),
        _slowest(workers, with_gramian, counts[-1]),
        *(_products(workers, with_gramian, Gradients(count, parameters, d)) for count in counts for d in dtypes),
        *(_torchjd(workers, everything, Gradients(count, parameters)) for count in counts),
        _memory(counts[-1], 4 * parameters),  # what TensorFlow itself needs is little beside that
    )


def _weights(workers: Workers, methods: Methods, count: int) -> Section:
    contenders = {name: _solver(name, count) for name in methods}
    contenders |= _theirs("weights", methods, Gradients(count, _SAMPLE))
    what = f"TorchJD / ours, a Gramian to weights, geometric mean, K = {count}"
    bound = Bound(f"weights_{count}", what, tuple(contenders), _faster(methods), "≥", 3.0)
    return timing.timed(workers, f"weights_{count}", contenders, bound, only_with=_TORCH)


def _slowest(workers: Workers, methods: Methods, count: int) -> Section:
    contenders = {name: _solver(name, count) for name in methods}
    what = f"the slowest method, a Gramian to weights, K = {count}"
    bound = Bound("weights_slowest", what, tuple(contenders), lambda times: max(times.values()), "≤", 5.0, "ms")
    return timing.timed(workers, "weights_slowest", contenders, bound)


def _products(workers: Workers, methods: Methods, gradients: Gradients) -> Section:
    contenders = {"products": Contender(_OURS, "products", gradients)}
    for name in methods:
        contenders |= {name: _aggregated(name, gradients), f"solver {name}": _solver(name, gradients.losses)}

    def ratios(times: Mapping[str, float]) -> list[float]:
        return [times[name] / (times["products"] + times[f"solver {name}"]) for name in methods]

    title, needs = f"products_{gradients.losses}_{gradients.dtype}", tuple(contenders)
    what = f"J to gradient / (`matmul` + `matvec` + solver), K = {gradients.losses}, {gradients.dtype}"
    bounds = (
        Bound(f"{title}_mean", f"{what}, geometric mean", needs, lambda t: _geometric_mean(ratios(t)), "≤", 1.2),
        Bound(f"{title}_worst", f"{what}, worst method", needs, lambda t: max(ratios(t)), "≤", 1.2),
    )
    return timing.timed(workers, title, contenders, *bounds)


def _torchjd(workers: Workers, methods: Methods, gradients: Gradients) -> Section:
    contenders = {name: _aggregated(name, gradients) for name in methods}
    contenders |= _theirs("aggregated", methods, gradients)
    title, what = f"torchjd_{gradients.losses}", f"TorchJD / ours, J to gradient, K = {gradients.losses}, float32"
    bound = Bound(title, f"{what}, geometric mean", tuple(contenders), _faster(methods), "≥", 1.0)
    return timing.timed(workers, title, contenders, bound, only_with=_TORCH)


def _memory(count: int, parameters: int) -> Section:
    gradients, copy = Gradients(count, parameters), 4e-6 * parameters

    def peak(method: str | None) -> float | Exception:
        """Returns the peak memory, in MB, of a fresh process that mixes three times, or the process's error."""
        try:
            with processes.tensorflow_worker(1, processes.RETURN_MEMORY) as worker:
                worker.call("build", name="", kind="mixed", problem=gradients.plain, method=method)
                worker.call("steps", name="", count=3)
                return worker.call("peak_memory") / 1e6
        except WorkerError as error:
            return error

    methods = {"given weights": None, "upgrad": "upgrad"}
    bound = Bound(
        "memory",
        f"peak memory of `upgrad` beyond that of weights that are given, in copies of the parameters, K = {count}",
        tuple(methods),
        lambda peaks: (peaks["upgrad"] - peaks["given weights"]) / copy,
        "≤",
        8.0,
    )
    return Section("memory", (bound,), lambda keys: {key: peak(methods[key]) for key in keys}, unit="MB")


def _solver(name: str, count: int) -> Contender:
    options = {"method": name, "per_call": _PER_CALL, "options": _own_options(name)}
    return Contender(_OURS, "weights", Gradients(count, _SAMPLE), _PER_CALL, options)


def _aggregated(name: str, gradients: Gradients) -> Contender:
    return Contender(_OURS, "aggregated", gradients, options={"method": name, "options": _own_options(name)})


def _own_options(name: str) -> Mapping[str, Any]:
    return {} if name in _OF_ELEMENTS else _ALL[name][1]


def _theirs(kind: str, methods: Methods, gradients: Gradients) -> dict[str, Contender]:
    def contender(name: str) -> Contender:
        theirs, options = methods[name]
        count = {"n_tasks": gradients.losses} if name == "nash_mtl" else {}
        return Contender(_TORCH, kind, gradients, options={"method": theirs, "options": {**options, **count}})

    return {f"TorchJD {name}": contender(name) for name in methods}


def _faster(names: Iterable[str]) -> Callable[[Mapping[str, float]], float]:
    return lambda times: _geometric_mean([times[f"TorchJD {name}"] / times[name] for name in names])


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


if __name__ == "__main__":
    app.run(main)
