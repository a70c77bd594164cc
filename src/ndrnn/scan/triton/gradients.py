"""Gradients of inputs and weights from those of the pre-activations: matrix products over the whole lattice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .faces import entry_gradients
from .predecessors import predecessors_kernel
from .problem import Deltas, Gradients, Inputs, Problem, Scanned


def gradients(
    problem: Problem,
    inputs: Inputs,
    scanned: Scanned,
    deltas: Deltas,
    dhn: Tensor | None,
    dcn: Tensor | None,
    wanted: Sequence[bool],
) -> Gradients:
    """Gradients of what ``wanted`` names, in the order of :class:`Gradients`; None for the others."""
    x, weight_ih, extra = inputs.x, inputs.weight_ih, inputs.extra
    rows = deltas.gates.view(-1, weight_ih.shape[0] * weight_ih.shape[1])
    dx = dih = dhh = dbias = dextra = dh0 = dc0 = None
    if wanted[0]:
        dx = (rows @ weight_ih.reshape(-1, x.shape[-1])).view(x.shape)
    if wanted[1]:
        dih = _over_rows(rows, x.reshape(-1, x.shape[-1])).view(weight_ih.shape).to(x.dtype)
    if wanted[2]:
        dhh = _recurrent_weights(problem, inputs, scanned, deltas)
    if wanted[3]:
        dbias = rows.sum(0).view(weight_ih.shape[:2])
    if wanted[4] and extra is not None:
        dextra = _additional(problem, inputs, scanned, deltas).to(extra.dtype)
    if wanted[5] or wanted[6]:
        dh0, dc0 = entry_gradients(problem, inputs, deltas, dhn, dcn)
    return Gradients(dx, dih, dhh, dbias, dextra, dh0 if wanted[5] else None, dc0 if wanted[6] else None)


def _predecessors(
    problem: Problem,
    axis: int,
    states: Tensor,
    faces: Tensor | None,
    sizes: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """States (N, P, D, H) of every point's predecessor along an axis; 0 outside ragged samples."""
    before = states.new_empty(
        (problem.batch, problem.points, problem.directions, problem.hidden), dtype=dtype
    )
    if not problem.empty:
        tile = 32
        predecessors_kernel[(-(-before.numel() // problem.hidden // tile),)](
            p_states=states, p_faces=faces, p_out=before, p_sizes=sizes, **problem.geometry(),
            NDIM=problem.shape.ndim, K=axis, HIDDEN=problem.hidden, ENTRY=faces is not None,
            RAGGED=sizes is not None, M=tile, BU=1 << max(4, min(7, (problem.hidden - 1).bit_length())),
        )  # fmt: skip
    return before


_LEAST_ROWS, _MOST_PIECES = 512, 64


def _over_rows(left: Tensor, right: Tensor) -> Tensor:
    """``left.mT @ right`` of (rows, F) and (rows, K), summed in float32 at least.

    A product of few outputs over very many rows keeps few multiprocessors busy; cut in pieces of rows it keeps all.
    """
    pieces = max(1, min(_MOST_PIECES, left.shape[0] // _LEAST_ROWS))
    even = left.shape[0] // pieces * pieces
    cut = [tensor[:even].unflatten(0, (pieces, -1)) for tensor in (left, right)]
    total = _product(cut[0].mT, cut[1]).sum(0)
    if even < left.shape[0]:
        total += _product(left[None, even:].mT, right[None, even:])[0]
    return total


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Of batches of matrices, whose sums are not rounded to 16 bits."""
    if left.is_cuda and left.dtype.itemsize == 2:
        return torch.bmm(left, right, out_dtype=torch.float32)
    return torch.bmm(left, right)


def _by_direction(left: Tensor, right: Tensor) -> Tensor:
    """Over the points, (D, F, K), from (N, P, D, F) and (N, P, D, K)."""
    left, right = left.flatten(0, 1), right.flatten(0, 1)
    return torch.stack([_over_rows(left[:, d], right[:, d]) for d in range(left.shape[1])]).to(right.dtype)


def _recurrent_weights(problem: Problem, inputs: Inputs, scanned: Scanned, deltas: Deltas) -> Tensor:
    """(D, n, G*H, H), axis by axis to spare memory."""
    hidden = problem.hidden
    axes = []
    for axis in range(problem.shape.ndim):
        before = _predecessors(problem, axis, scanned.y, inputs.h0, inputs.sizes, inputs.x.dtype)
        if deltas.parts is None:
            axes.append(_by_direction(deltas.gates, before))
        else:
            gates = _by_direction(deltas.gates[..., :-hidden], before)
            parts = _by_direction(deltas.parts[..., axis * hidden : (axis + 1) * hidden], before)
            axes.append(torch.cat([gates, parts], dim=1))
    return torch.stack(axes, dim=1)


def _additional(problem: Problem, inputs: Inputs, scanned: Scanned, deltas: Deltas) -> Tensor:
    """Of the additional parameter: peepholes, weights that act on memories, or the GRU's bias."""
    shape, hidden, state = problem.shape, problem.hidden, scanned.state
    if deltas.parts is not None:
        return deltas.parts.sum((0, 1)).view(-1, shape.ndim, hidden)
    assert state is not None
    if shape.feeds:
        axes = [
            _predecessors(problem, axis, state, inputs.c0, inputs.sizes, inputs.x.dtype)
            for axis in range(shape.ndim)
        ]
        return torch.stack([_by_direction(deltas.gates, before) for before in axes], dim=1)

    limit = shape.limit(state.dtype)

    def of_gate(gate: int, memories: Tensor) -> Tensor:
        product = deltas.gates[..., gate * hidden : (gate + 1) * hidden] * memories
        return product.clamp_(-limit, limit).sum((0, 1))

    forget, total = [], torch.zeros_like(state)
    for axis in range(shape.ndim):
        before = _predecessors(problem, axis, state, inputs.c0, inputs.sizes, state.dtype)
        forget.append(of_gate(1 + axis, before))
        total += before
    # the input gate has one weight a unit for all axes
    return torch.stack([of_gate(0, total), *forget, of_gate(shape.gates - 1, state)], dim=1)
