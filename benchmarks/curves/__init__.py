"""Early stopping on a table of real learning curves.

    python -m benchmarks.curves            # the rules against no rule, some minutes
    python -m benchmarks.curves tabulate   # makes the table anew

The table holds the validation curves of a small network on handwritten digits: every point of a grid of 144, trained
6 times over 16 epochs. Studies on it see the curve of a training epoch by epoch, as if it ran.
"""
