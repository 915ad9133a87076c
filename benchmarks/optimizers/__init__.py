"""`hyppo` beside its peers, on many families of problems: `python -m benchmarks.optimizers --help`.

Layers, downward only: `problems/` (the losses) and `peers/` (the optimisers) do not import each other; `race` runs
one peer on one problem; `schedule` runs many races and stores their lines; `measures` and `report` read the lines.
"""
