"""Whether the kernels run under Triton's interpreter."""

import os

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""On CPU tensors then; Triton decides once, when the kernels are imported."""
