"""What a training process imports: the replica, the call of the user's function, and what the training leaves.

Nothing here loads numba, h5py or scipy.
"""
