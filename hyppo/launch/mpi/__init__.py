"""Trainings on the ranks of an MPI job. mpi4py is imported in this folder only."""
