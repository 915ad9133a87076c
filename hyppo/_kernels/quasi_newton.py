"""Steps of a minimisation within bounds, of few variables.

    symbol    shape   meaning
    x, g      (m,)    point, and the gradient there
    B         (m, m)  estimate of the Hessian, positive definite
    s, y      (m,)    a step, and the change of the gradient along it

A variable at a bound that its gradient pushes against stays; the others go to the minimum of g^T p + 1/2 p^T B p over
themselves, no farther than `reach` in any of them. B follows by the damped formula of Broyden, Fletcher, Goldfarb and
Shanno (Nocedal & Wright 2006, procedure 18.2).
"""

import math

from hyppo._kernels.jit import jit

AT_BOUND = 1e-12  # fraction of a step
SHORT = 0.1  # of a step that a bound leaves: shorter ones are bent along the bound instead of cut


@jit
def bounded_step(x, gradient, hessian, low, high, reach, work, out):  # type: ignore[no-untyped-def]
    """out[:m] = x after the step; then the largest projected gradient, g^T s, the largest |s|.

    Shapes (m,), (m,), (m, m), (m,), (m,), float, (m + 1, m) -> (m + 3,); `work` is overwritten.
    """
    m = x.shape[0]
    for a in range(m):
        held = (x[a] <= low[a] and gradient[a] > 0.0) or (x[a] >= high[a] and gradient[a] < 0.0)
        work[m, a] = 0.0 if held else -gradient[a]
        for b in range(a + 1):
            work[a, b] = hessian[a, b]
        if held:
            for b in range(a):
                work[a, b] = 0.0
            work[a, a] = 1.0
    for a in range(m):  # columns of the held variables, below the diagonal
        if work[m, a] == 0.0:
            for b in range(a + 1, m):
                work[b, a] = 0.0
    for a in range(m):  # Cholesky factor, and the forward substitution with it
        for b in range(a + 1):
            total = work[a, b]
            for c in range(b):
                total -= work[a, c] * work[b, c]
            work[a, b] = math.sqrt(total) if a == b else total / work[b, b]
        total = work[m, a]
        for c in range(a):
            total -= work[a, c] * work[m, c]
        work[m, a] = total / work[a, a]
    largest = 0.0
    for a in range(m - 1, -1, -1):
        total = work[m, a]
        for c in range(a + 1, m):
            total -= work[c, a] * work[m, c]
        work[m, a] = total / work[a, a]
        largest = max(largest, abs(work[m, a]))
    scale = reach / largest if largest > reach else 1.0
    fraction = 1.0
    for a in range(m):
        d = scale * work[m, a]
        room = (high[a] - x[a]) / d if d > 0.0 else ((low[a] - x[a]) / d if d < 0.0 else 1.0)
        if room <= AT_BOUND:
            d = 0.0
        elif room < fraction:
            fraction = room
        work[m, a] = d
    if fraction < SHORT:
        fraction = 1.0
    slope = 0.0
    projected = 0.0
    farthest = 0.0
    for a in range(m):
        out[a] = min(max(x[a] + fraction * work[m, a], low[a]), high[a])
        step = out[a] - x[a]
        slope += gradient[a] * step
        farthest = max(farthest, abs(step))
        projected = max(projected, abs(min(max(x[a] - gradient[a], low[a]), high[a]) - x[a]))
    out[m] = projected
    out[m + 1] = slope
    out[m + 2] = farthest


@jit
def bfgs_update(hessian, step, change, work, out):  # type: ignore[no-untyped-def]
    """out[a, b] = B_ab after the gradient changed by y along s, damped if the curvature is not positive.

    Shapes (m, m), (m,), (m,), (m,) -> (m, m); `work` is overwritten.
    """
    m = step.shape[0]
    known = 0.0
    seen = 0.0
    for a in range(m):
        total = 0.0
        for b in range(m):
            total += hessian[a, b] * step[b]
        work[a] = total
        known += step[a] * total
        seen += step[a] * change[a]
    share = 1.0 if seen >= 0.1 * known else 0.9 * known / (known - seen)
    curvature = share * seen + (1.0 - share) * known
    for a in range(m):
        y_a = share * change[a] + (1.0 - share) * work[a]
        for b in range(m):
            y_b = share * change[b] + (1.0 - share) * work[b]
            out[a, b] = hessian[a, b] + y_a * y_b / curvature - work[a] * work[b] / known
