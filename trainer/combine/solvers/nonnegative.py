"""Small quadratic problems over nonnegative unknowns, and the projection onto the simplex."""

from __future__ import annotations

from trainer.combine import lazy_tensorflow as tf

_TOLERANCE = 1e-12  # of what may be violated, relative to the largest unknown or linear coefficient
_RIDGE = 1e-14  # keeps dependent rows solvable; changes a result's squared length by at most this times ‖x‖²
_MOST_EXCHANGES = 10  # well-conditioned problems need 2 to 5
_MOST_STEPS = 30  # of the interior-point method, which needs 10 to 15
_GAP, _RESIDUAL = 1e-16, 1e-9  # where it stops; the residual is far smaller until the gap is, then rounding raises it
_SHORT_OF_BOUNDARY = 0.995


def minimise(matrix: tf.Tensor, linear: tf.Tensor, *, free: tf.Tensor | None = None) -> tf.Tensor:
    """argmin over x >= 0 of ½ xᵀCx + qᵀx, for one C and many q.

    Block principal pivoting (Kim and Park, https://doi.org/10.1137/110821172): solve for a set of free unknowns, then
    exchange all that violate optimality. It is exact and takes few rounds, but may cycle where C is (nearly)
    singular; problems that it does not solve go to Mehrotra's interior-point method, which no cycle can catch.

    Args:
      matrix: (K, K) float64, C: positive semidefinite with entries of the order of 1; unknowns whose row is zero
        stay 0 unless their q is negative.
      linear: (B, K) float64, the q; each in (or nearly in) the range of C, or with nonnegative entries, so that the
        minimum exists.
      free: (B, K) bool, unknowns guessed to be positive; None guesses those with q < 0.

    Returns:
      (B, K) float64.
    """
    scale = tf.reduce_max(tf.abs(linear), axis=1, keepdims=True)
    linear = tf.math.divide_no_nan(linear, scale)
    diagonal = tf.linalg.diag_part(matrix)
    matrix = tf.linalg.set_diag(matrix, tf.where(diagonal > 0.0, diagonal, 1.0))
    unknowns, solved = _exchange(matrix, linear, linear < 0.0 if free is None else free)
    unknowns = tf.cond(
        tf.reduce_all(solved),
        lambda: unknowns,
        lambda: tf.where(solved[:, tf.newaxis], unknowns, _interior(matrix, linear)),
    )
    return unknowns * scale


def _exchange(matrix: tf.Tensor, linear: tf.Tensor, free: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Block principal pivoting: (B, K) unknowns and (B,) whether they are optimal."""
    ridged = matrix + _RIDGE * tf.eye(matrix.shape[0], dtype=tf.float64)

    def body(
        count: tf.Tensor, free: tf.Tensor, unknowns: tf.Tensor, violated: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        free = free ^ violated
        mask = tf.cast(free, tf.float64)
        system = ridged * mask[:, :, tf.newaxis] * mask[:, tf.newaxis, :]
        system = tf.linalg.set_diag(system, mask * tf.linalg.diag_part(ridged) + (1.0 - mask))
        unknowns = tf.linalg.solve(system, (-mask * linear)[:, :, tf.newaxis])[:, :, 0]
        slack = tf.where(free, unknowns, tf.matmul(unknowns, matrix) + linear)
        # The linear coefficients' largest is 1.
        largest = tf.maximum(tf.reduce_max(tf.abs(unknowns), axis=1, keepdims=True), 1.0)
        return count + 1, free, unknowns, slack < -_TOLERANCE * largest

    _, _, unknowns, violated = tf.while_loop(
        lambda count, free, unknowns, violated: (count == 0) | (tf.reduce_any(violated) & (count < _MOST_EXCHANGES)),
        body,
        (0, free, tf.zeros_like(linear), tf.zeros_like(free)),
    )
    return tf.maximum(unknowns, 0.0), ~tf.reduce_any(violated, axis=1)


def _interior(matrix: tf.Tensor, linear: tf.Tensor) -> tf.Tensor:
    """Mehrotra's predictor-corrector method for y = Cx + q, x >= 0, y >= 0, x y = 0, from one fixed start."""
    identity = tf.eye(matrix.shape[0], dtype=tf.float64)
    matrix += _RIDGE * identity

    def longest(values: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        return tf.reduce_min(tf.where(steps < 0.0, -values / tf.where(steps < 0.0, steps, -1.0), 2.0), 1, keepdims=True)

    def body(
        count: tf.Tensor, x: tf.Tensor, y: tf.Tensor, unsolved: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        residual = tf.matmul(x, matrix) + linear - y
        gap = tf.reduce_mean(x * y, axis=1, keepdims=True)
        size = 1.0 + tf.reduce_max(x, axis=1, keepdims=True)
        worst = tf.reduce_max(tf.abs(residual), axis=1, keepdims=True)
        unsolved = (gap > _GAP * size) | (worst > _RESIDUAL * size)
        ratio = tf.sqrt(x / y)
        inverse = tf.linalg.inv(ratio[:, :, tf.newaxis] * matrix * ratio[:, tf.newaxis, :] + identity)

        def step(products: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            right = ratio * (products / x - residual)
            dx = ratio * tf.linalg.matvec(inverse, right)
            return dx, (products - y * dx) / x

        dx, dy = step(-x * y)
        reach = tf.minimum(tf.minimum(longest(x, dx), longest(y, dy)), 1.0)
        predicted = tf.reduce_mean((x + reach * dx) * (y + reach * dy), axis=1, keepdims=True)
        dx, dy = step((predicted / gap) ** 3 * gap - x * y - dx * dy)
        reach = tf.minimum(_SHORT_OF_BOUNDARY * tf.minimum(longest(x, dx), longest(y, dy)), 1.0)
        # Solved ones stay: their last digits are all that a further step would change, and may spoil.
        return count + 1, tf.where(unsolved, x + reach * dx, x), tf.where(unsolved, y + reach * dy, y), unsolved

    start = tf.ones_like(linear)
    _, x, y, _ = tf.while_loop(
        lambda count, x, y, unsolved: tf.reduce_any(unsolved) & (count < _MOST_STEPS),
        body,
        (0, start, tf.maximum(tf.matmul(start, matrix) + linear, 1.0), tf.ones_like(linear[:, :1], tf.bool)),
    )
    return tf.where(x > y, x, 0.0)


def project_onto_simplex(values: tf.Tensor, active: tf.Tensor, mass: tf.Tensor | float = 1.0) -> tf.Tensor:
    """The point nearest to (K,) values among those >= 0 that sum to `mass` over the active entries; 0 elsewhere.

    By sorting: https://doi.org/10.1145/1390156.1390191, figure 1.
    """
    # The projection is the same for values less their largest, and the mass is not lost among large numbers.
    values -= tf.reduce_max(tf.where(active, values, -float("inf")))
    first = tf.argsort(tf.where(active, values, -float("inf")), direction="DESCENDING")
    excess = tf.cumsum(tf.gather(tf.where(active, values, 0.0), first)) - mass
    threshold = excess / tf.range(1, active.shape[0] + 1, dtype=tf.float64)
    # The thresholds rise up to the right one and fall after it.
    largest = tf.reduce_max(tf.where(tf.gather(active, first), threshold, -float("inf")))
    return tf.where(active, tf.maximum(values - largest, 0.0), 0.0)
