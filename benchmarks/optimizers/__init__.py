"""`hyppo` beside its peers, on many families of problems: `python -m benchmarks.optimizers --help`.

Layers, downward only: `problems/` (what is minimised) and `peers/` (what minimises) know nothing of each other; `race`
lets one peer at one problem; `schedule` does many races and keeps their lines; `measures` and `report` read the lines.
"""
