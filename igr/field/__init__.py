"""The neural field f: encoding, compiled passes, nnabla function, inference, checkpoint file.

    reductions       sums and means that every GPU runs
    encoding         sines and cosines of x
    passes           compiled passes through the layers: value, gradient, double backward
    training_kernel  value and gradient as one nnabla function
    inference        f at many points
    checkpoints      .h5 files: weights and what belongs to them

It may import backend.
"""
