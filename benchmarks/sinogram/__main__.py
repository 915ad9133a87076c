"""`python -m benchmarks.sinogram`."""

from benchmarks.sinogram.run import app

app()
