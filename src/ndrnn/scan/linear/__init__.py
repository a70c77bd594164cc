"""The linear scan: c = z plus the sum over the axes of f times the predecessor's c, and the layer on it.

From the lowest: ``reference``, ``wavefront`` and the compiled kernels' ``operators`` and ``cpu``, and
:mod:`~ndrnn.scan.linear.function`, which chooses among them.
"""
