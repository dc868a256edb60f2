"""What the computer offers: processor, memory, threads, GPUs, and a view of progress.

    blas      choose OpenBLAS' kernels before numpy is loaded
    memory    refuse what would not fit into the memory
    threads   the thread pool, and how functions are compiled for it
    cuda      find and load CUDA's libraries
    devices   choose nnabla's context
    progress  show how far a training or another long work is

It may import nothing of the project but helper.
"""
