"""The lattice point that a perturbation leads to.

symbol    shape   meaning
origin    (q, d)  levels of the points
moved     (q, d)  levels nearest to the points after their steps
step      (q, d)  the steps; of an ordered parameter the sign is read
jump      (q, d)  uniform variates for the unordered ones
mask      (q, d)  which coordinates move
last      (d,)    last level of each parameter
ordered   (d,)    whether its levels have an order
"""

from hyppo._kernels.jit import jit


@jit
def neighbours(origin, moved, step, jump, mask, last, ordered, out):  # type: ignore[no-untyped-def]
    """out[i, j] = level: at least one step if ordered, any other value if not; (q, d) ... (d,) -> (q, d)."""
    for i in range(origin.shape[0]):
        for j in range(origin.shape[1]):
            level = origin[i, j]
            if mask[i, j] and ordered[j]:
                if moved[i, j] != level:
                    level = moved[i, j]
                else:  # at a bound the only neighbour is inside
                    towards = -1 if step[i, j] < 0.0 else 1
                    level += towards if 0 <= level + towards <= last[j] else -towards
            elif mask[i, j]:
                other = min(int(jump[i, j] * last[j]), max(last[j] - 1, 0))
                level = other + (1 if other >= level else 0)
            out[i, j] = min(max(level, 0), last[j])
