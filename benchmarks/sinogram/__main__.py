"""`python -m benchmarks.sinogram`."""

import os

# Before numpy and torch are imported: on a shared machine their threads cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from benchmarks.sinogram.run import app

app()
