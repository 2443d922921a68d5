"""The lines of the table on what XLA compiles: ways to compile the trainer's step, and JAX on the same work."""

from collections.abc import Mapping
from typing import Any

from tests.benchmarks import problems
from tests.benchmarks.bounds import Bound, Section
from tests.benchmarks.problems import Problem
from tests.benchmarks.rounds import Contender, Workers
from tests.benchmarks.timing import FUSED, ours, ratio, timed
from trainer.config.settings import COMPILED

JAX = "jax"  # the name of its worker
_CONV, _CONV_STEPS = problems.convolutional(3), 20
_SMALL, _SMALL_STEPS = problems.small(), 100
_SLOW_STEPS = 1  # of a call with convolutions in a loop that XLA compiles: half a second and more each
_MEAN = {"combine": {"name": "mean"}, "reduction": "per_loss"}
_UPGRAD = {"combine": {"name": "upgrad"}, "reduction": "per_loss"}


def sections(workers: Workers) -> tuple[Section, ...]:
    """All of them, their step times measured by these workers."""
    return (
        _jax_small(workers),
        _jax_convolutions(workers),
        _ways(workers, "conv", _CONV, _CONV_STEPS, _SLOW_STEPS),
        _ways(workers, "mlp", _SMALL, _SMALL_STEPS, _SMALL_STEPS),
    )


def _jax_small(workers: Workers) -> Section:
    contenders = {
        "loop": _compiled(_SMALL, "loop", _SMALL_STEPS, FUSED),
        "loop mean": _compiled(_SMALL, "loop", _SMALL_STEPS, _MEAN),
        "loop upgrad": _compiled(_SMALL, "loop", _SMALL_STEPS, _UPGRAD),
        "JAX": _jax(_SMALL),
        "JAX vmap": _jax(_SMALL, per_loss=True),
        "JAX loop": _jax(_SMALL, _SMALL_STEPS),
        "JAX vmap loop": _jax(_SMALL, _SMALL_STEPS, per_loss=True),
    }
    small, in_loop = "small MLP, batch 32", f"`lax.fori_loop` of {_SMALL_STEPS} steps"
    bounds = (
        _over("jax_mlp", f"`compile: loop`, sum / JAX jitted, {small}", "loop", "JAX", 0.7),
        _over(
            "jax_mlp_3", f"`compile: loop`, `mean`, K = 3 passes / JAX (vmap), {small}", "loop mean", "JAX vmap", 0.8
        ),
        _over("jax_mlp_3_upgrad", "the same, `upgrad` / JAX (vmap), which takes the mean", "loop upgrad", "JAX vmap"),
        _over("jax_mlp_loop", f"`compile: loop`, sum / JAX, {in_loop}, {small}", "loop", "JAX loop"),
        _over(
            "jax_mlp_3_loop",
            f"`compile: loop`, `mean`, K = 3 passes / JAX (vmap), {in_loop}, {small}",
            "loop mean",
            "JAX vmap loop",
        ),
    )
    return timed(workers, "jax_mlp_all", contenders, *bounds, only_with=JAX)


def _jax_convolutions(workers: Workers) -> Section:
    contenders = {
        "fused": ours(_CONV, _CONV_STEPS, **FUSED),
        "per loss mean": ours(_CONV, _CONV_STEPS, **_MEAN),
        "JAX": _jax(_CONV),
        "JAX vmap": _jax(_CONV, per_loss=True),
    }
    bounds = (
        _over("jax_conv", "sum, not compiled / JAX jitted, convolutions", "fused", "JAX", 0.3),
        _over("jax_conv_3", "`mean`, K = 3 passes / JAX (vmap), convolutions", "per loss mean", "JAX vmap", 0.3),
    )
    return timed(workers, "jax_conv_all", contenders, *bounds, only_with=JAX)


def _ways(workers: Workers, name: str, problem: Problem, per_call: int, per_compiled_call: int) -> Section:
    """Each way to compile beside `off`, for a sum and for K passes, and `auto` beside the best of them."""
    contenders, bounds = {}, []
    for suffix, what, changes in (("", "sum", FUSED), ("_3", "`upgrad`, K = 3", _UPGRAD)):
        off = f"off{suffix}"
        contenders[off] = _compiled(problem, "off", per_call, changes)
        for way, steps in (("passes", per_call), ("loop", per_compiled_call)):
            contenders[way + suffix] = _compiled(problem, way, steps, changes)
            text = f"`compile: {way}` / `off`, {what}, per step of {name}"
            bounds.append(_over(f"{way}_{name}{suffix}", text, way + suffix, off))
        contenders[f"auto{suffix}"] = _compiled(problem, "auto", per_call, changes)
        bounds.append(_auto(name, suffix, what))
    return timed(workers, f"compile_{name}", contenders, *bounds)


def _compiled(problem: Problem, way: str, per_call: int, changes: Mapping[str, Any]) -> Contender:
    return ours(problem, per_call, compile=way, steps_per_loop=per_call, **changes)


def _jax(problem: Problem, per_call: int = 1, *, per_loss: bool = False) -> Contender:
    return Contender(JAX, JAX, problem, per_call, {"per_call": per_call, "per_loss": per_loss})


def _auto(name: str, suffix: str, what: str) -> Bound:
    """`auto` beside the fastest of the ways that it chooses from."""
    ways = tuple(f"{way}{suffix}" for way in COMPILED)

    def over_the_best(numbers: Mapping[str, float]) -> float:
        return numbers[f"auto{suffix}"] / min(numbers[way] for way in ways)

    text = f"`compile: auto` / the best of the others, {what}, per step of {name}"
    return Bound(f"auto_{name}{suffix}", text, (f"auto{suffix}", *ways), over_the_best, "≤", 1.1)


def _over(name: str, what: str, numerator: str, denominator: str, limit: float | None = None) -> Bound:
    return Bound(name, what, (numerator, denominator), ratio(numerator, denominator), "≤", limit)
