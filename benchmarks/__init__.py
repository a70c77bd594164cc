"""One command prints how fast the scans are: ``python -m benchmarks``, see README.md."""
