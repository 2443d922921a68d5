"""The lines of the table on memory and on what travels between replicas."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks import problems
from tests.benchmarks.bounds import Bound, Section, difference
from tests.benchmarks.processes import RETURN_MEMORY, tensorflow_worker
from tests.benchmarks.workers import WorkerError

_FUSED = {"reduction": "fused"}
_UPDATE_EVERY = 10


def memory() -> Section:
    problem = problems.dense(2048)
    copy = 4e-6 * problem.trunk_parameters
    variants = {
        "fused": _FUSED,
        "per loss": {},
        "2 micro-batches": {"micro_batches": 2},
        "8 micro-batches": {"micro_batches": 8},
    }

    def peak(changes: Mapping[str, Any]) -> float | Exception:
        """Returns the peak memory, in MB, of a fresh process that builds the problem and takes three steps.

        A worker's error is returned, not raised.
        """
        try:
            with tensorflow_worker(1, RETURN_MEMORY) as worker:
                options = {"per_call": 1, "combine": {"name": "pcgrad" if "reduction" not in changes else "mean"}}
                worker.call("build", name="", kind="ours", problem=problem.plain, **options, **changes)
                worker.call("steps", name="", count=3)
                return worker.call("peak_memory") / 1e6
        except WorkerError as error:
            return error

    copies = f"in copies of the shared parameters ({copy:.0f} MB)"
    bounds = (
        Bound(
            "memory_per_loss",
            f"peak memory of a per-loss step beyond a fused one's, {copies}, K = {problem.heads}",
            ("per loss", "fused"),
            lambda peaks: (peaks["per loss"] - peaks["fused"]) / copy,
            "≤",
            problem.heads + 3,
        ),
        Bound(
            "memory_micro_batches",
            f"peak memory with 8 micro-batches beyond that with 2, {copies}",
            ("8 micro-batches", "2 micro-batches"),
            lambda peaks: (peaks["8 micro-batches"] - peaks["2 micro-batches"]) / copy,
            "≤",
            0.5,
        ),
    )
    return Section("memory", bounds, lambda keys: {key: peak(variants[key]) for key in keys}, unit="MB")


def payload() -> Section:
    variants = {
        "per_loss": ("per loss", False, {}),
        "fused": ("fused", False, _FUSED),
        "fused_missing": ("fused, labels missing", True, _FUSED),
    }

    def numbers(keys: Sequence[str]) -> dict[str, float | Exception]:
        found: dict[str, float | Exception] = {}
        with tensorflow_worker(2) as worker:
            for name in dict.fromkeys(key.partition(" ")[0] for key in keys):
                _, missing, changes = variants[name]
                problem = problems.dense(64, missing=missing)
                copies = problem.heads if name == "per_loss" else 1
                own = problem.parameters - problem.trunk_parameters
                found[f"{name} formula"] = 4 * (copies * problem.trunk_parameters + own + 2 * problem.heads)
                try:
                    found[f"{name} traced"] = worker.call("payload", problem=problem.plain, **changes)
                except WorkerError as error:
                    found[f"{name} traced"] = error
        return found

    bounds = tuple(
        Bound(
            f"payload_{name}",
            f"bytes reduced per replica and step, traced - formula, {what}",
            (f"{name} traced", f"{name} formula"),
            difference(f"{name} traced", f"{name} formula"),
            "=",
            0,
        )
        for name, (what, *_) in variants.items()
    )
    return Section("payload", bounds, numbers, unit="bytes")
