"""Every line of the table: what is measured, how, and its bound."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tests.benchmarks import compiled, many_losses, memory, problems, start
from tests.benchmarks.bounds import Bound, Section, difference
from tests.benchmarks.problems import Problem
from tests.benchmarks.processes import KERAS
from tests.benchmarks.rounds import Contender, Workers
from tests.benchmarks.timing import FUSED, ours, ratio, timed
from trainer.combine.registry import METHODS, LooksAt

LOSSES = (1, 10, 20, 30, 40)
WIDTHS = (360, 720, 1000, 1200, 1400, 1560)  # no powers of two, which caches treat apart

_CONV, _CONV_STEPS = problems.convolutional(3), 20  # `steps_per_loop` as it comes
_SMALL, _SMALL_STEPS = problems.small(), 100  # as a user chooses it for steps of less than a millisecond
_TORCHJD = {"mean": "Mean", "pcgrad": "PCGrad", "mgda": "MGDA", "upgrad": "UPGrad"}
_UPDATE_EVERY = 10
_PER_LOSS = {3: 2.25, 10: 7.7}  # per-loss / fused at most, by the number of losses


def sections(workers: Workers) -> tuple[Section, ...]:
    """All sections, their step times measured by these workers."""
    return (
        _keras(workers),
        _keras_on_two_devices(workers),
        _keras_small(workers),
        _passes(workers, 3),
        _passes(workers, 10),
        _torchjd(workers),
        *compiled.sections(workers),
        memory.memory(),
        memory.payload(),
        _line(
            workers,
            "time_over_losses",
            "per-loss step over K",
            {f"K = {count}": ours(problems.convolutional(count), 1, combine={"name": "pcgrad"}) for count in LOSSES},
            LOSSES,
        ),
        _line(
            workers,
            "time_over_parameters",
            "per-loss step over the number of parameters",
            {f"width {w}": ours(problems.dense(w, batch_size=32), 5, combine={"name": "pcgrad"}) for w in WIDTHS},
            [problems.dense(width).parameters for width in WIDTHS],
        ),
        start.start(),
        many_losses.many_losses(),
        _breakdown(workers, "breakdown_conv", _CONV, _CONV_STEPS, 1.1),
        _breakdown(workers, "breakdown_mlp", _SMALL, _SMALL_STEPS, 1.35),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Step times.
# ---------------------------------------------------------------------------------------------------------------------


def _keras(workers: Workers) -> Section:
    contenders = {
        "fused": ours(_CONV, _CONV_STEPS, **FUSED),
        **_fits(_CONV, (1, 4, 16)),
        **_fits(_CONV, (1, 4, 16), endless=True),
    }
    what = "fused / Keras `fit` at its best, endless data included, convolutions, one device"
    bound = Bound("keras_conv", what, tuple(contenders), lambda t: t["fused"] / _best(t, "fit"), "≤", 1.0)
    return timed(workers, "keras_conv", contenders, bound)


def _keras_on_two_devices(workers: Workers) -> Section:
    worker = "two devices"
    fits, endless = _fits(_CONV, (1,), worker), _fits(_CONV, (1,), worker, endless=True)  # more a call crash there
    contenders = {"fused": ours(_CONV, _CONV_STEPS, worker, **FUSED), **fits, **endless}
    what = "/ fused, convolutions, two logical devices"
    return timed(
        workers,
        "keras_conv_2",
        contenders,
        _faster("keras_conv_2", f"Keras `fit`, epochs of {_CONV.examples} examples {what}", fits, 1.8),
        _faster("keras_conv_2_endless", f"Keras `fit` on endless data {what}", endless),
    )


def _keras_small(workers: Workers) -> Section:
    fits, endless = _fits(_SMALL, (1, 16, 128)), _fits(_SMALL, (128,), endless=True)
    contenders = {"fused": ours(_SMALL, _SMALL_STEPS, **FUSED), **fits, **endless}
    what, epochs = "/ fused, small MLP, batch 32", f"epochs of {_SMALL.examples} examples"
    return timed(
        workers,
        "keras_mlp",
        contenders,
        _faster("keras_mlp_best", f"Keras `fit`, its best `steps_per_execution`, {epochs} {what}", fits, 1.7),
        _faster("keras_mlp_default", f"Keras `fit` as it comes, {epochs} {what}", list(fits)[:1], 3.0),
        _faster("keras_mlp_endless", f"Keras `fit` on endless data {what}", endless),
    )


def _faster(name: str, what: str, fits: Iterable[str], limit: float | None = None) -> Bound:
    keys = tuple(fits)
    return Bound(name, what, ("fused", *keys), lambda t: min(t[key] for key in keys) / t["fused"], "≥", limit)


def _passes(workers: Workers, heads: int) -> Section:
    problem = problems.convolutional(heads)
    pcgrad = {"name": "pcgrad"}
    contenders = {
        "fused": ours(problem, _CONV_STEPS, **FUSED),
        "per loss": ours(problem, _UPDATE_EVERY, combine=pcgrad),
        "update_every": ours(problem, _CONV_STEPS, combine=pcgrad | {"update_every": _UPDATE_EVERY}),
        "features": ours(problem, _CONV_STEPS, combine=pcgrad, reduction="features"),
    }
    # A backward pass is twice a forward's work; a fused step has one of each.
    passes = (1 + 2 * heads) / 3
    average = (passes + _UPDATE_EVERY - 1) / _UPDATE_EVERY
    limits = {
        "per loss": (f"per-loss / fused, where operations say {passes:.3g}, K = {heads}", _PER_LOSS[heads]),
        "update_every": (
            f"`update_every` = {_UPDATE_EVERY} / fused, against 1.1 of the average, K = {heads}",
            1.1 * average,
        ),
        "features": (f"features / fused, K = {heads}", 1.3),
    }
    for name, method in METHODS.items():
        if method.looks_at is LooksAt.LOSSES:
            contenders[name] = ours(problem, _CONV_STEPS, combine={"name": name}, **FUSED)
            # Looking at the losses again is one forward pass more, a third of the work.
            limits[name] = (f"`{name}`, fused / `mean`, fused, K = {heads}", 1.4 if method.observe else 1.05)
    bounds = (
        Bound(f"{key.replace(' ', '_')}_{heads}", what, ("fused", key), ratio(key, "fused"), "≤", limit)
        for key, (what, limit) in limits.items()
    )
    return timed(workers, f"passes_{heads}", contenders, *bounds)


def _torchjd(workers: Workers) -> Section:
    contenders = {
        "fused": ours(_CONV, _CONV_STEPS, **FUSED),
        "torch": Contender("torch", "torch", _CONV),
    }
    bounds = [
        Bound("torch_sum", "PyTorch, summed loss / fused", ("torch", "fused"), ratio("torch", "fused")),
    ]
    for name in (name for name in _TORCHJD if name in METHODS):
        own = f"per loss {name}"
        contenders[own] = ours(_CONV, _CONV_STEPS, combine={"name": name})
        for suffix, how, size, limit in (("", "", None, 1.7), ("_one_at_a_time", ", one loss at a time", 1, None)):
            theirs = f"TorchJD {name}{how}"
            options = {"aggregator": _TORCHJD[name], "parallel_chunk_size": size}
            contenders[theirs] = Contender("torch", "torch", _CONV, options=options)
            what = f"TorchJD{how} / per-loss, `{name}`, K = 3"
            bounds.append(Bound(f"torchjd_{name}{suffix}", what, (own, theirs), ratio(theirs, own), "≥", limit))
    return timed(workers, "torchjd", contenders, *bounds, only_with="torch")


def _line(
    workers: Workers, name: str, what: str, contenders: Mapping[str, Contender], over: Sequence[float]
) -> Section:
    def share(times: Mapping[str, float]) -> float:
        values = np.array([times[key] for key in contenders])
        slope, offset = np.polyfit(over, values, 1)
        return 1 - np.sum((values - slope * np.array(over) - offset) ** 2) / np.sum((values - values.mean()) ** 2)

    return timed(workers, name, contenders, Bound(name, f"R² of a line: {what}", tuple(contenders), share, "≥", 0.98))


def _breakdown(workers: Workers, name: str, problem: Problem, per_call: int, limit: float) -> Section:
    network = name.partition("_")[2]
    contenders = {
        "step": ours(problem, per_call, **FUSED),
        "one batch": ours(problem, per_call, kind="ours on one batch", **FUSED),
        "calls of one step": ours(problem, 1, kind="ours on one batch", **FUSED),
        "kernels": Contender("one device", "kernels", problem, per_call, {"per_call": per_call}),
    }

    def host(times: Mapping[str, float]) -> float:
        of_a_call = (times["calls of one step"] - times["one batch"]) / (1 - 1 / per_call)
        return of_a_call / per_call

    def rest(times: Mapping[str, float]) -> float:
        return times["one batch"] - host(times) - times["kernels"]

    parts: dict[str, tuple[str, tuple[str, ...], Callable[[Mapping[str, float]], float]]] = {
        "kernels": ("bare forward, backward and Adam", ("kernels",), operator.itemgetter("kernels")),
        "input": (
            "input: what a step on one batch lacks",
            ("step", "one batch"),
            difference("step", "one batch"),
        ),
        "host": (f"host: calls, each of {per_call} steps", ("one batch", "calls of one step"), host),
        "rest": ("the rest: several optimizers, checks, totals", ("one batch", "calls of one step", "kernels"), rest),
    }
    bounds = (
        Bound(f"{name}_{part}", f"{what}, per step of {network}", needs, value, unit="ms")
        for part, (what, needs, value) in parts.items()
    )
    what = f"fused, not compiled, input included / bare kernels, per step of {network}"
    whole = Bound(f"kernels_{network}", what, ("step", "kernels"), ratio("step", "kernels"), "≤", limit)
    return timed(workers, name, contenders, whole, *bounds)


def _fits(
    problem: Problem, executions: Sequence[int], worker: str = "one device", *, endless: bool = False
) -> dict[str, Contender]:
    return {
        f"{'endless ' if endless else ''}fit, {steps} per execution": Contender(
            KERAS + worker, "keras", problem, problem.epoch, {"steps_per_execution": steps, "endless": endless}
        )
        for steps in executions
    }


def _best(times: Mapping[str, float], kind: str) -> float:
    return min(time for key, time in times.items() if kind in key)
