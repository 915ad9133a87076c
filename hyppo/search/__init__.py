"""Which point to try next, and which of those tried to recommend: pure functions of what is known.

    symbol   shape   meaning
    unit     (n, d)  lattice coordinates of visited points
    x        (n, D)  their features (see `Space.features`)
    y        (n,)    their scores, mean + risk * spread, transformed (see `surrogates.outputs`)
    v        (n,)    variance of y's noise
    n        int     points with a loss

Two surrogates take turns: a Gaussian process that knows the noise of every point, by expected improvement, and a cubic
radial basis function near the incumbent, by weighted value and distance. On some 100 problems of 2 to 10 parameters
either alone needed 1.1 to 2 times the evaluations of both in turn.

What an ask has to know of earlier asks (hyperparameters to start from, radius of the local search, whose turn it is)
is in the origins of the earlier trials and nowhere else: a resumed study proposes what an uninterrupted one would.
"""
