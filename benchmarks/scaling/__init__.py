"""How the one loop scales: simulated groups by the thousand on a virtual clock, and real ranks that sleep.

python -m benchmarks.scaling simulate --groups 1024 --seconds 60 --trials 10000
python -m benchmarks.scaling regret
python -m benchmarks.scaling ranks --ranks 9 --seconds 0.35
python -m benchmarks.scaling batches
python -m benchmarks.scaling figure results/*.json
"""
