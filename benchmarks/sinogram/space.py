"""The search space: the architecture's size, the optimiser's pace, the regularisation.

Every training sees the same number of sinograms, so a larger batch means fewer steps: a trade-off for the search to
find. A learning rate above about 0.006 is the fast and the uncertain end: the spread over replicas triples there.
"""

import hyppo

ACTIVATIONS = ("relu", "silu", "gelu", "tanh")


def space_of(size: str) -> hyppo.Space:
    """Space of the benchmark of this size; the larger one also searches the activation.

    Examples
    --------
    >>> list(space_of("smoke"))
    ['depth', 'width', 'kernel', 'lr', 'batch', 'dropout']
    """
    parameters: dict[str, hyppo.Integer | hyppo.Real | hyppo.Choice | hyppo.Ordinal] = {
        "depth": hyppo.Integer(1, 3),
        "width": hyppo.Ordinal([4, 8]),
        "kernel": hyppo.Ordinal([3, 5]),
        "lr": hyppo.Real(3e-4, 3e-2, log=True),
        "batch": hyppo.Ordinal([8, 16, 32]),
        "dropout": hyppo.Ordinal([0.0, 0.05, 0.1, 0.2]),
    }
    if size == "demo":
        parameters["activation"] = hyppo.Choice(list(ACTIVATIONS))
    return hyppo.Space(parameters)
