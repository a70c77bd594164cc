"""One scan on the device: the large matrix products by cuBLAS, the recurrence by one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...lattice import Direction, face_lattice, inside
from . import backward as backward_pass
from . import forward as forward_pass
from . import predecessors as predecessors_pass
from .plan import Plan, Shape, count_face_points, is_empty, order_of_others, plan


class Problem(NamedTuple):
    """The sizes of a scan, and what of it is optional."""

    shape: Shape
    lattice: tuple[int, ...]
    batch: int
    directions: int
    hidden: int
    backward_axes: int  # n bits a direction, 1 for an axis that is scanned backward

    @property
    def points(self) -> int:
        return prod(self.lattice)

    @property
    def extents(self) -> tuple[int, int, int]:
        first, second, third, *_ = (*self.lattice, 1, 1)
        return first, second, third


def pack_directions(directions: Sequence[Direction]) -> int:
    signs = [sign for direction in directions for sign in direction]
    return sum(1 << bit for bit, sign in enumerate(signs) if sign < 0)


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


def _precision(dtype: torch.dtype, device: torch.device) -> str:
    """As torch's own switch for products has it."""
    tf32 = dtype == torch.float32 and device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32
    return "tf32" if tf32 else "ieee"


def _plan(problem: Problem, like: Tensor) -> Plan:
    processors = 1
    if like.device.type == "cuda":
        processors = torch.cuda.get_device_properties(like.device).multi_processor_count
    tensor_cores = like.dtype in (torch.bfloat16, torch.float16) or _precision(like.dtype, like.device) == "tf32"
    return plan(
        problem.shape, problem.hidden, problem.batch, problem.lattice, problem.directions,
        like.element_size(), tensor_cores, processors,
    )  # fmt: skip


def _arguments(problem: Problem, cut: Plan, like: Tensor, sizes: Tensor | None) -> dict[str, Any]:
    """What both passes hand to their kernel alike."""
    extent0, extent1, extent2 = problem.extents
    tasks = cut.strips * cut.groups * problem.directions
    return {
        "p_sizes": sizes,
        "p_order": order_of_others(problem.lattice, like.device),
        "p_counters": torch.zeros((1 + tasks) * 32, dtype=torch.int32, device=like.device),
        "backward_axes": problem.backward_axes,
        "directions": problem.directions,
        "batch": problem.batch,
        "extent0": extent0,
        "extent1": extent1,
        "extent2": extent2,
        "group": cut.group,
        "groups": cut.groups,
        "rows": cut.rows,
        "strips": cut.strips,
        **problem.shape.constants(),
        "HIDDEN": problem.hidden,
        "RAGGED": sizes is not None,
        "RESIDENT": cut.resident,
        "PRECISION": _precision(like.dtype, like.device),
        "ACC": _triton_dtype(state_dtype(like.dtype)),
        "M": cut.M,
        "BU": cut.BU,
        "BK": cut.BK,
        "num_warps": cut.num_warps,
        "num_stages": 1,
    }


def _triton_dtype(dtype: torch.dtype) -> Any:
    import triton.language as tl

    return tl.float64 if dtype == torch.float64 else tl.float32


def gate_inputs(x: Tensor, weight_ih: Tensor, bias: Tensor | None) -> Tensor:
    """W x + b of all points and directions by one product: (N, P, D, G*H)."""
    rows, matrix = x.reshape(-1, x.shape[-1]), weight_ih.reshape(-1, weight_ih.shape[-1]).T
    product = rows @ matrix if bias is None else torch.addmm(bias.reshape(-1), rows, matrix)
    return product.view(x.shape[0], -1, *weight_ih.shape[:2])


class Scanned(NamedTuple):
    y: Tensor  # (N, *lattice, D, H)
    hn: Tensor | None  # (D, N, F, H)
    sn: Tensor | None
    state: Tensor | None  # (N, P, D, H) in the precision of states; None where y holds them
    gates: Tensor | None  # (N, P, D, G*H): activations
    parts: Tensor | None  # (N, P, D, n*H): the GRU's parts of the candidate


def forward(
    problem: Problem,
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    extra: Tensor | None,
    sizes: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    keep: bool,
    exits: bool,
) -> Scanned:
    shape, hidden = problem.shape, problem.hidden
    gates = gate_inputs(x, weight_ih, bias)
    y = x.new_empty((problem.batch, problem.points, problem.directions, hidden))
    separate = shape.memory or (shape.states and state_dtype(x.dtype) != x.dtype)
    state = y.new_empty(y.shape, dtype=state_dtype(x.dtype)) if separate else None
    parts = gates.new_empty((*y.shape[:-1], shape.ndim * hidden)) if keep and shape.split else None
    hn = new_exits(problem, x, sizes, h0) if exits else None
    cn = new_exits(problem, x, sizes, c0) if exits and shape.memory else None
    if not is_empty(problem.batch, problem.lattice):
        cut = _plan(problem, x)
        forward_pass.forward_kernel[(cut.strips * cut.groups * problem.directions,)](
            p_gates=gates, p_parts=parts, p_y=y, p_state=y if state is None else state,
            p_h0=h0, p_s0=c0 if shape.memory else h0, p_hn=hn, p_sn=cn,
            p_hh=weight_hh, p_extra=extra,
            BIASED=shape.split and extra is not None, STORES_STATE=separate, KEEP=keep and shape.keeps_gates,
            ENTRY=h0 is not None, EXIT=exits, **_arguments(problem, cut, x, sizes),
        )  # fmt: skip
    kept = gates if keep and shape.keeps_gates else None
    return Scanned(y.view(*x.shape[:-1], problem.directions, hidden), hn, cn, state, kept, parts)


def new_exits(problem: Problem, x: Tensor, sizes: Tensor | None, entry: Tensor | None) -> Tensor:
    """Memory for the states that leave the lattice, with what no point will write: zero outside a sample, and what
    enters along an empty axis."""
    shape = (problem.directions, problem.batch, count_face_points(problem.lattice), problem.hidden)
    if entry is None:
        fresh = sizes is None and not is_empty(problem.batch, problem.lattice)
        return x.new_empty(shape) if fresh else x.new_zeros(shape)
    if sizes is None:
        return entry.clone()
    return entry.masked_fill(~passing(problem, sizes, x.device)[None, :, :, None], 0)


def passing(problem: Problem, sizes: Tensor | None, device: torch.device) -> Tensor:
    """Mask (N, F): where a state on an entry face leaves unchanged, because the sample is empty along that axis."""
    if sizes is None:
        sizes = torch.tensor([problem.lattice], device=device).expand(problem.batch, -1)
    masks = []
    for axis in range(len(problem.lattice)):
        own = torch.cat([sizes[:, :axis], sizes[:, axis + 1 :]], dim=1)
        on_face = inside(own, face_lattice(problem.lattice, axis)).reshape(problem.batch, -1)
        masks.append(on_face & (sizes[:, axis, None] == 0))
    return torch.cat(masks, dim=1)


class Gradients(NamedTuple):
    x: Tensor | None
    weight_ih: Tensor | None
    weight_hh: Tensor | None
    bias: Tensor | None
    extra: Tensor | None
    h0: Tensor | None
    c0: Tensor | None


def backward(
    problem: Problem,
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    extra: Tensor | None,
    sizes: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    scanned: Scanned,
    dy: Tensor,
    dhn: Tensor | None,
    dcn: Tensor | None,
    wanted: Sequence[bool],
) -> Gradients:
    """Gradients of what ``wanted`` names, in the order of :class:`Gradients`."""
    shape, hidden, directions = problem.shape, problem.hidden, problem.directions
    rows = (problem.batch, problem.points, directions)
    delta = x.new_empty((*rows, shape.gates * hidden))
    dparts = x.new_empty((*rows, shape.ndim * hidden)) if shape.split else None
    exact = state_dtype(x.dtype)
    carry = x.new_empty((shape.ndim, *rows, hidden), dtype=exact) if shape.states else None
    if not is_empty(problem.batch, problem.lattice):
        cut = _plan(problem, x)
        backward_pass.backward_kernel[(cut.strips * cut.groups * directions,)](
            p_gates=scanned.gates, p_parts=scanned.parts, p_y=scanned.y,
            p_state=scanned.y if scanned.state is None else scanned.state,
            p_h0=h0, p_s0=c0 if shape.memory else h0, p_dy=dy, p_dhn=dhn, p_dsn=dcn,
            p_delta=delta, p_dparts=dparts, p_carry=carry, p_hh=weight_hh, p_extra=extra,
            ENTRY=h0 is not None, EXIT=dhn is not None, **_arguments(problem, cut, x, sizes),
        )  # fmt: skip

    dx = dih = dhh = dbias = dextra = dh0 = dc0 = None
    flat = delta.view(-1, directions * shape.gates * hidden)
    if wanted[0]:
        dx = (flat @ weight_ih.reshape(-1, x.shape[-1])).view(x.shape)
    if wanted[1]:
        dih = (flat.T @ x.reshape(-1, x.shape[-1])).view(weight_ih.shape)
    if wanted[3]:
        dbias = flat.sum(0).view(weight_ih.shape[:2])
    if wanted[2] or (wanted[4] and extra is not None):
        dhh, dextra = _recurrent(problem, scanned, delta, dparts, sizes, h0, c0, wanted[2], extra if wanted[4] else None)
    if wanted[5] or wanted[6]:
        dh0, dc0 = _entries(problem, delta, dparts, carry, weight_hh, extra, sizes, dhn, dcn)
    return Gradients(dx, dih, dhh, dbias, dextra, dh0, dc0)


def _predecessors(
    problem: Problem, axis: int, states: Tensor, faces: Tensor | None, sizes: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """States (N, P, D, H) of every point's predecessor along an axis; 0 outside ragged samples."""
    shape = (problem.batch, problem.points, problem.directions, problem.hidden)
    before = states.new_empty(shape, dtype=dtype)
    extent0, extent1, extent2 = problem.extents
    rows, width = before.numel() // problem.hidden, 1 << max(4, min(7, (problem.hidden - 1).bit_length()))
    if rows:
        predecessors_pass.predecessors_kernel[(-(-rows // 32),)](
            p_states=states, p_faces=faces, p_out=before, p_sizes=sizes,
            backward_axes=problem.backward_axes, directions=problem.directions, batch=problem.batch,
            extent0=extent0, extent1=extent1, extent2=extent2,
            NDIM=problem.shape.ndim, K=axis, HIDDEN=problem.hidden, ENTRY=faces is not None, RAGGED=sizes is not None,
            M=32, BU=width,
        )  # fmt: skip
    return before


def _by_direction(rows: Tensor) -> Tensor:
    """(N, P, D, F) as (D, N*P, F), without a copy."""
    return rows.flatten(0, 1).transpose(0, 1)


def _recurrent(
    problem: Problem,
    scanned: Scanned,
    delta: Tensor,
    dparts: Tensor | None,
    sizes: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    want_hh: bool,
    extra: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the recurrent weights and of the additional parameter, axis by axis to spare memory."""
    shape, hidden = problem.shape, problem.hidden
    y = scanned.y.view(*delta.shape[:-1], hidden)
    dhh, rows = [], []
    for axis in range(shape.ndim):
        if want_hh:
            before = _by_direction(_predecessors(problem, axis, y, h0, sizes, delta.dtype))
            if dparts is None:
                dhh.append(_by_direction(delta).mT @ before)
            else:
                part = _by_direction(dparts[..., axis * hidden : (axis + 1) * hidden])
                gates = _by_direction(delta[..., :-hidden])
                dhh.append(torch.cat([gates.mT @ before, part.mT @ before], dim=1))
        if extra is not None and scanned.state is not None and (shape.feeds or shape.peepholes):
            dtype = delta.dtype if shape.feeds else scanned.state.dtype
            memories = _predecessors(problem, axis, scanned.state, c0, sizes, dtype)
            if shape.feeds:
                rows.append(_by_direction(delta).mT @ _by_direction(memories))
            else:
                own = [delta[..., gate * hidden : (gate + 1) * hidden] for gate in (0, 1 + axis)]
                rows.append(torch.stack([(d * memories).sum((0, 1)) for d in own]))
    dextra = None
    if extra is not None:
        if shape.feeds:
            dextra = torch.stack(rows, dim=1)
        elif shape.peepholes and scanned.state is not None:
            output = (delta[..., -hidden:] * scanned.state).sum((0, 1))
            dextra = torch.stack([sum(row[0] for row in rows), *(row[1] for row in rows), output], dim=1)  # type: ignore
        elif dparts is not None:
            dextra = dparts.sum((0, 1))
        dextra = None if dextra is None else dextra.reshape(extra.shape).to(extra.dtype)
    return torch.stack(dhh, dim=1) if dhh else None, dextra


def _entries(
    problem: Problem,
    delta: Tensor,
    dparts: Tensor | None,
    carry: Tensor | None,
    weight_hh: Tensor,
    extra: Tensor | None,
    sizes: Tensor | None,
    dhn: Tensor | None,
    dcn: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the states on the entry faces, from the points that met them."""
    shape, hidden = problem.shape, problem.hidden
    h_faces, c_faces = [], []
    for axis in range(shape.ndim):
        index, met = _entry_points(problem, axis, sizes, delta.device)

        def take(rows: Tensor, index: Tensor = index, met: Tensor | None = met) -> Tensor:
            taken = rows.flatten(0, 2)[index]
            return taken if met is None else taken.masked_fill(~met, 0)

        def through(rows: Tensor, matrices: Tensor) -> Tensor:
            return (rows.flatten(1, 2) @ matrices).unflatten(1, rows.shape[1:3])

        weights, taken = weight_hh[:, axis], take(delta)
        if dparts is None:
            dh = through(taken, weights)
        else:
            part = take(dparts[..., axis * hidden : (axis + 1) * hidden])
            dh = through(taken[..., :-hidden], weights[:, :-hidden]) + through(part, weights[:, -hidden:])
        if carry is not None:
            into_state = take(carry[axis])
            if shape.memory:
                c_faces.append(into_state)
            else:
                dh = dh + into_state
        if shape.feeds and extra is not None:
            c_faces[-1] = c_faces[-1] + through(taken, extra[:, axis])
        h_faces.append(dh)
    dh0, dc0 = torch.cat(h_faces, dim=2), torch.cat(c_faces, dim=2) if c_faces else None
    if dhn is not None:
        crossed = ~passing(problem, sizes, delta.device)[None, :, :, None]
        dh0 = dh0 + dhn.masked_fill(crossed, 0)
        dc0 = None if dc0 is None or dcn is None else dc0 + dcn.masked_fill(crossed, 0)
    return dh0.to(delta.dtype), None if dc0 is None else dc0.to(delta.dtype)


def _entry_points(
    problem: Problem, axis: int, sizes: Tensor | None, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """For every point of a face, the row among (N, P, D) that meets it at its entry, (D, N, F_k), and whether any does."""
    lattice, n = problem.lattice, problem.shape.ndim
    stride, extent = prod(lattice[axis + 1 :]), lattice[axis]
    on_face = torch.arange(problem.points // extent if extent else 0, device=device)
    first = on_face // stride * (stride * extent) + on_face % stride
    samples = torch.arange(problem.batch, device=device)[:, None]
    own = torch.full_like(samples, extent) if sizes is None else sizes[:, axis, None]
    rows = []
    for d in range(problem.directions):
        backward = problem.backward_axes >> (d * n + axis) & 1
        at = first + stride * (own - 1).clamp(min=0) if backward else first
        rows.append((samples * problem.points + at) * problem.directions + d)
    met = None
    if sizes is not None:
        others = torch.cat([sizes[:, :axis], sizes[:, axis + 1 :]], dim=1)
        met = inside(others, face_lattice(lattice, axis)).reshape(problem.batch, -1) & (own > 0)
        met = met[None, :, :, None]
    return torch.stack([row.expand(problem.batch, -1) for row in rows]), met
