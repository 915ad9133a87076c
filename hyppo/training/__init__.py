"""Everything that a training process imports: the replica, the call of the user's function, the stored results.

Nothing here loads numba, h5py or scipy.
"""
