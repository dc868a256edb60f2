"""The machinery of IGR; it imports helper and itself, and no script of the top level."""

from igr.backend import blas

blas.choose()  # before anything here loads numpy: OpenBLAS looks at the variable only once
