"""Nash bargaining between losses, and its generalisation to other ideas of fairness."""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf
from trainer.combine.entry import POSITIVE, Between, Card, LooksAt, Method, options
from trainer.combine.problem import Answer, Problem, uniform
from trainer.combine.solvers import cosines
from trainer.common import schema
from trainer.common.schema import setting

_RIDGE = 1e-14  # of the second derivative alone, so it delays but does not change the solution
_CLOSE = 1e-9  # a relative change of the unknowns; the step that makes it squares it
_MOST_STEPS = 100  # usually 5 to 10; rows that cancel are noticed after 15 to 40


def nash_mtl(problem: Problem, *, max_norm: float = 1.0) -> Answer:
    """`nash_mtl`: α > 0 with G α = 1/α. https://arxiv.org/abs/2202.01017

    With d = Σ αₖ gₖ every αₖ gₖ·d is 1, so that ‖d‖² is the number K of active losses: d is √K long, however long the
    gradients are. It is scaled down to the length `max_norm` if that is less; 0 turns that off. Without a solution,
    that is if some v >= 0, v ≠ 0 has vᵀGv = 0 (as a zero or two opposite gradients do), the weights are those of the
    mean of unit-length gradients, and the answer says that it fell back.
    """
    unit, norms = cosines.of_active(problem)
    coefficients, solved = _bargain(unit, tf.cast(norms > 0.0, tf.float64), 1.0)
    answer = _answer(problem, norms, coefficients, solved)
    if not max_norm:
        return answer
    found = cosines.length(unit, answer.coefficients * norms)
    return answer._replace(coefficients=answer.coefficients * max_norm / tf.maximum(found, max_norm))


def fair_grad(problem: Problem, *, alpha: float = 2.0, preference: tuple[float, ...] | None = None) -> Answer:
    """`fair_grad`: w > 0 with G w = (w/p)^(-1/α). https://arxiv.org/abs/2402.15638

    `alpha` > 0 is the kind of fairness: 1 is Nash bargaining, large values max-min. `preference` is p, K numbers > 0,
    by default ones. Falls back where `nash_mtl` does, and where Newton's method has not converged after its most
    steps: for `alpha` far from 1 (0.1 or 100), if rows differ much in length or nearly cancel.
    """
    unit, norms = cosines.of_active(problem)
    wanted = tf.ones_like(norms) if preference is None else tf.constant(preference, tf.float64)
    present = norms > 0.0
    pull = tf.where(present, tf.where(present, norms, 1.0) ** (1.0 / alpha - 1.0) * wanted ** (1.0 / alpha), 0.0)
    coefficients, solved = _bargain(unit, pull, alpha)
    return _answer(problem, norms, coefficients, solved)


def _answer(problem: Problem, norms: tf.Tensor, coefficients: tf.Tensor, solved: tf.Tensor) -> Answer:
    solved &= ~tf.reduce_any(problem.active & (norms == 0.0))
    chosen = tf.where(solved, tf.where(norms > 0.0, coefficients, 0.0), uniform(problem.active))
    return Answer(chosen * tf.math.reciprocal_no_nan(norms), fell_back=~solved)


def _bargain(unit: tf.Tensor, pull: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """v > 0 with C v = s v^(-1/α), by Newton's method.

    It is where ½ vᵀCv - Σ s v^(1-1/α) / (1 - 1/α) (½ vᵀCv - Σ s log v for α = 1), which is convex, is least. Steps are
    relative, v (1 + τδ); τ minimises an upper bound: for 1/α <= 1 and 0 <= x < 1, (1-x)^(-1/α) - 1 <= x / (α (1-x)).

    Args:
      unit: (K, K) float64, C: inner products of unit rows; rows of zero are left out.
      pull: (K,) float64, s; 0 for rows left out.

    Returns:
      (K,) float64, v; and whether it is a solution.
    """
    identity = tf.eye(unit.shape[0], dtype=tf.float64)
    ridged = unit + _RIDGE * identity

    def cancels(v: tf.Tensor, squared: tf.Tensor) -> tf.Tensor:
        return squared <= (cosines.CANCELS * tf.reduce_sum(v)) ** 2

    def body(
        count: tf.Tensor, v: tf.Tensor, change: tf.Tensor, close: tf.Tensor, cancelling: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        want = pull * v ** (1.0 - 1.0 / alpha)
        have = v * tf.linalg.matvec(unit, v)
        inverse = tf.math.reciprocal_no_nan(tf.sqrt(want / alpha))
        scale = v * inverse
        right = inverse * (want - have)
        step = tf.linalg.solve(scale[:, tf.newaxis] * ridged * scale + identity, right[:, tf.newaxis])[:, 0]
        decrement = tf.tensordot(step, right, 1)
        curvature = decrement - tf.tensordot(step, step, 1)
        step *= inverse
        down = max(1.0, 1.0 / alpha) * tf.maximum(tf.reduce_max(-step), 0.0)
        inner = (1.0 + down) ** 2 - 4.0 * down * tf.maximum(tf.math.divide_no_nan(curvature, decrement), 0.0)
        length = 2.0 / (1.0 + down + tf.sqrt(tf.maximum(inner, 0.0)))
        new = tf.reduce_max(tf.abs(step))
        # Where rows nearly cancel, rounding ends the convergence before that.
        close = (new < _CLOSE) | ((new < 1e-3) & (new > 0.5 * change))
        return count + 1, v * (1.0 + length * step), new, close, cancels(v * tf.sign(pull), tf.reduce_sum(have))

    start = tf.where(pull > 0.0, pull, 1.0) ** (alpha / (alpha + 1.0))
    wanted = pull * start ** (1.0 - 1.0 / alpha)
    squared = tf.tensordot(start * tf.sign(pull), tf.linalg.matvec(unit, start), 1)
    total = tf.reduce_sum(wanted)
    start *= tf.math.divide_no_nan(total, tf.maximum(squared, 1e-3 * total)) ** (alpha / (alpha + 1.0))
    _, v, _, close, cancelling = tf.while_loop(
        lambda count, v, change, close, cancelling: ~(close | cancelling) & (count < _MOST_STEPS),
        body,
        (0, start, tf.constant(float("inf"), tf.float64), total == 0.0, tf.constant(False)),
    )
    return v, close & ~cancelling


NASH_MTL = Method(
    function=nash_mtl,
    looks_at=LooksAt.GRAMIAN,
    summary="Nash bargaining: α with G α = 1/α",
    paper=("Nash-MTL, Navon 2022", "https://arxiv.org/abs/2202.01017"),
    options=options(
        "nash_mtl",
        max_norm=setting(
            schema.number(),
            1.0,
            "how long the result may be; 0: √K, which it is without a bound",
            Between(0.3, 3, log=True),
        ),
    ),
    may_fall_back=True,
    card=Card(
        formula="Σ αₖ gₖ, α > 0 with G α = 1/α, scaled down to the length `max_norm` where it is longer",
        work="Newton's method for K unknowns, 5 to 10 linear systems as a rule",
        use="The losses' scales mean nothing: multiplying a loss by a number changes nothing in the result.",
        avoid=(
            "The update is to shorten as the gradients do: its length is always the same. Where gradients cancel or "
            "one is zero, it falls back to the mean of unit gradients."
        ),
        differences=(
            "Solved to convergence in every step from the same start, so that there is no state, where theirs takes 20 "
            "rounds of a convex-concave procedure from the last step's α. The length is theirs: they divide G by its "
            "norm and put the norm back into the constraints, so that Σ αₖ gₖ is √K long before `max_norm` in both."
        ),
    ),
)

FAIR_GRAD = Method(
    function=fair_grad,
    looks_at=LooksAt.GRAMIAN,
    summary="α-fair: w with G w = w^(-1/α)",
    paper=("FairGrad, Ban 2024", "https://arxiv.org/abs/2402.15638"),
    options=options(
        "fair_grad",
        alpha=setting(
            POSITIVE,
            2.0,
            "α, the kind of fairness: 1 is Nash bargaining, large values max-min",
            Between(0.5, 10, log=True),
        ),
        preference=setting(schema.optional(schema.sequence(POSITIVE)), None, "p, a number for each loss; none: ones"),
    ),
    may_fall_back=True,
    card=Card(
        formula="Σ wₖ gₖ, w > 0 with G w = (w/p)^(-1/α)",
        work="Newton's method for K unknowns, 5 to 10 linear systems as a rule",
        use="As `nash_mtl`, and how much the loss that gains least counts is to be chosen: the larger α, the more.",
        avoid=(
            "α far from 1 (0.1 or 100) while gradients differ much in length or nearly cancel: no convergence, and it "
            "falls back to the mean of unit gradients."
        ),
        differences=(
            "Solved to convergence, where theirs stops SciPy's bounded least squares at its default tolerances. Both "
            "start afresh in every step, so that there is no state."
        ),
    ),
)
