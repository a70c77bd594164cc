"""Input without a batch axis, as one sample."""

from __future__ import annotations

from torch import Tensor


def add_batch(x: Tensor, sizes: Tensor | None, ndim: int) -> tuple[Tensor, Tensor | None, bool]:
    """x (N, D1, ..., Dn, C) and sizes (N, n) from those of one sample without the axis N, and whether they were so.

    Raises:
        ValueError: the sizes of an unbatched x are not (n,).
    """
    if x.dim() != ndim + 1:
        return x, sizes, False
    if isinstance(sizes, Tensor):
        if sizes.shape != (ndim,):
            raise ValueError(
                f"sizes of an unbatched x must have shape (n,) = ({ndim},), got {tuple(sizes.shape)}"
            )
        sizes = sizes.unsqueeze(0)
    return x.unsqueeze(0), sizes, True
