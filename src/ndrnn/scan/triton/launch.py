"""One scan on the device: the large matrix products by cuBLAS, the recurrence by one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...lattice import Direction
from . import forward as forward_pass
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
    return entry * passing(problem, sizes)[None, :, :, None]


def passing(problem: Problem, sizes: Tensor) -> Tensor:
    """Mask (N, F): where a state on an entry face leaves unchanged, because the sample is empty along that axis."""
    from ...lattice import face_lattice, inside

    masks = []
    for axis in range(len(problem.lattice)):
        own = torch.cat([sizes[:, :axis], sizes[:, axis + 1 :]], dim=1)
        on_face = inside(own, face_lattice(problem.lattice, axis)).reshape(problem.batch, -1)
        masks.append(on_face & (sizes[:, axis, None] == 0))
    return torch.cat(masks, dim=1)
