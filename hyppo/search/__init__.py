"""The next point to try, and the recommendation among those tried: pure functions of the trials.

    symbol   shape   meaning
    unit     (n, d)  lattice coordinates of visited points
    x        (n, D)  their features (see `Space.features`)
    y        (n,)    their scores, mean + risk * spread, transformed (see `surrogates.outputs`)
    v        (n,)    variance of y's noise
    n        int     points with a loss

Two surrogates take turns: a Gaussian process that knows the noise of every point, by expected improvement, and a cubic
radial basis function near the incumbent, by weighted value and distance. On some 100 problems of 2 to 10 parameters
either alone needed 1.1 to 2 times the evaluations of both in turn.

All that an ask knows of earlier asks (hyperparameters to start from, radius of the local search, whose turn it is) is
in the origins of the earlier trials: a resumed study proposes the same points as an uninterrupted one.
"""
