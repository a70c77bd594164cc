"""One scan on the device: the large matrix products by cuBLAS, the recurrence by one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from . import pairs, wide
from .backward import backward_fronts_kernel, backward_kernel
from .faces import new_exits
from .forward import forward_fronts_kernel, forward_kernel
from .gradients import gradients
from .interpreted import INTERPRETED
from .packs import Given, Numbers
from .plan import Chip, Plan, holds_state_apart, order_of_others, plan, state_dtype
from .problem import Deltas, Gradients, Inputs, Problem, Scanned


def _precision(dtype: torch.dtype, device: torch.device) -> str:
    """How products of 32-bit operands are taken, by torch's own switch.

    Without leave to round to tf32 each is made of three tf32 products, which is float32 to rounding; plain float32
    units would be slower, and their operands spill out of the registers.
    """
    if device.type == "cpu":
        return "widened" if dtype == torch.bfloat16 else "ieee"
    if dtype != torch.float32:
        return "ieee"
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"


# the interpreter has neither; small numbers make it cut small problems too
_INTERPRETER = Chip(processors=1, shared_memory=96 * 1024)


def _plan(problem: Problem, x: Tensor, backward: bool = False) -> Plan:
    """Of strips, or of whole wavefronts where these pay."""
    chip = _INTERPRETER
    if x.device.type == "cuda":
        device: Any = torch.cuda.get_device_properties(x.device)
        chip = Chip(device.multi_processor_count, device.shared_memory_per_block_optin)
    given = (
        problem.shape, problem.hidden, problem.batch, problem.lattice, problem.directions,
        x.element_size(), _precision(x.dtype, x.device), chip,
    )  # fmt: skip
    choice = wide.choice_for(problem.shape, problem.hidden, x.dtype)
    return wide.plan_of_fronts(*given, backward, choice) or plan(*given)


def _arguments(problem: Problem, cut: Plan, inputs: Inputs, *, backward: bool) -> dict[str, Any]:
    """What both passes hand to their kernels alike."""
    x, shape = inputs.x, problem.shape
    precision = _precision(x.dtype, x.device)
    tiles = cut.tiles(precision == "tf32x3", backward)
    return {
        "p_h0": _aligned(inputs.h0),
        "p_s0": _aligned(inputs.c0 if shape.memory else inputs.h0),
        "p_hh": _stacked(inputs.weight_hh) if tiles.stacked else inputs.weight_hh,
        "p_extra": inputs.extra,
        "p_sizes": inputs.sizes,
        "p_order": order_of_others(problem.lattice, x.device),
        "p_counters": torch.zeros(cut.counters(problem.directions) * 32, dtype=torch.int32, device=x.device),
        **problem.geometry(),
        "group": cut.group,
        "groups": cut.groups,
        "rows": cut.rows,
        "strips": cut.strips,
        "CELL": shape.traits(problem.hidden),
        "CUT": tiles,
        "MATH": Numbers(
            precision,
            tl.float64 if x.dtype == torch.float64 else tl.float32,
            largest_state=shape.limit(x.dtype),
            largest_gradient=shape.limit(state_dtype(x.dtype)),
            approximate=cut.crew > 0 and x.dtype == torch.bfloat16 and not INTERPRETED,
        ),
        "num_warps": cut.num_warps,
        "num_stages": cut.num_stages,
    }


def _stacked(weights: Tensor) -> Tensor:
    """Float32 weights as a sum (2, ...) of themselves, rounded to the bits of tf32, and of what these leave out.

    The kernels do the same to what they multiply with them, in ``products.left_operand``.
    """
    high = ((weights.view(torch.int32) + 4096) & -8192).view(torch.float32)
    return torch.stack([high, torch.where(high.isfinite(), weights - high, 0)])


def _aligned(tensor: Tensor | None) -> Tensor | None:
    """As the kernels read it, several numbers at once: what begins in the middle of others' memory is copied."""
    return tensor if tensor is None or tensor.data_ptr() % 16 == 0 else tensor.clone()


def _gate_inputs(inputs: Inputs) -> Tensor:
    """W x + b of all points and directions by one product: (N, P, D, G*H)."""
    x, weight, bias = inputs.x, inputs.weight_ih, inputs.bias
    rows, matrix = x.reshape(-1, x.shape[-1]), weight.reshape(-1, weight.shape[-1]).T
    product = rows @ matrix if bias is None else torch.addmm(bias.reshape(-1), rows, matrix)
    return product.view(x.shape[0], prod(x.shape[1:-1]), *weight.shape[:2])


def forward(problem: Problem, inputs: Inputs, *, keep: bool, exits: bool) -> Scanned:
    """Scan; ``keep`` what the way back will want, and give the states that leave the lattice if ``exits``."""
    x, shape = inputs.x, problem.shape
    cut = None if problem.empty else _plan(problem, x)
    fused = x.shape[-1] if cut is not None and cut.crew and 0 < x.shape[-1] <= wide.MOST_INPUTS else 0
    keep_gates = keep and shape.states
    gates: Tensor | None
    if not fused:
        gates = _gate_inputs(inputs)
    else:
        rows = (problem.batch, problem.points, problem.directions)
        gates = x.new_empty((*rows, shape.gates * problem.hidden)) if keep_gates else None
    y = x.new_empty((problem.batch, problem.points, problem.directions, problem.hidden))
    apart = holds_state_apart(shape, x.dtype)
    state = torch.empty_like(y, dtype=state_dtype(x.dtype)) if apart else None
    parts = y.new_empty((*y.shape[:-1], shape.ndim * problem.hidden)) if keep and shape.split else None
    hn = new_exits(problem, x, inputs.sizes, inputs.h0) if exits else None
    cn = new_exits(problem, x, inputs.sizes, inputs.c0) if exits and shape.memory else None
    if cut is not None:
        kernel = forward_fronts_kernel if cut.crew else forward_kernel
        given = {"p_x": x, "p_ih": inputs.weight_ih, "p_bias": inputs.bias} if cut.crew else {}
        compiled = kernel[(cut.programs(problem.directions),)](
            p_gates=gates, p_parts=parts, p_y=y, p_state=state if apart else y, p_hn=hn, p_sn=cn,
            GIVEN=Given(
                inputs.h0 is not None, exits, inputs.sizes is not None,
                biased=shape.split and inputs.extra is not None, apart=apart, keep=keep_gates, inputs=fused,
            ),
            **given, **_arguments(problem, cut, inputs, backward=False),
        )  # fmt: skip
        if cut.crew:
            pairs.check(compiled)
    y = y.view(*x.shape[:-1], problem.directions, problem.hidden)
    return Scanned(y, hn, cn, state if keep else None, gates if keep_gates else None, parts)


def backward(
    problem: Problem,
    inputs: Inputs,
    scanned: Scanned,
    dy: Tensor,
    dhn: Tensor | None,
    dcn: Tensor | None,
    wanted: Sequence[bool],
) -> Gradients:
    """Gradients of what ``wanted`` names, in the order of :class:`Gradients`."""
    x, shape = inputs.x, problem.shape
    scanned = Scanned(*map(_aligned, scanned))  # type: ignore[arg-type]
    if dhn is None and dcn is not None:
        dhn = torch.zeros_like(dcn)
    if dcn is None and dhn is not None and shape.memory:
        dcn = torch.zeros_like(dhn)
    rows = (problem.batch, problem.points, problem.directions)
    found = Deltas(
        gates=x.new_empty((*rows, shape.gates * problem.hidden)),
        parts=x.new_empty((*rows, shape.ndim * problem.hidden)) if shape.split else None,
        carry=x.new_empty((shape.ndim, *rows, problem.hidden), dtype=state_dtype(x.dtype))
        if shape.states
        else None,
    )
    if not problem.empty:
        cut = _plan(problem, x, backward=True)
        kernel = backward_fronts_kernel if cut.crew else backward_kernel
        compiled = kernel[(cut.programs(problem.directions),)](
            p_gates=scanned.gates, p_parts=scanned.parts, p_y=scanned.y,
            p_state=scanned.y if scanned.state is None else scanned.state,
            p_dy=_aligned(dy), p_dhn=_aligned(dhn), p_dsn=_aligned(dcn), p_delta=found.gates, p_dparts=found.parts, p_carry=found.carry,
            GIVEN=Given(inputs.h0 is not None, dhn is not None, inputs.sizes is not None),
            **_arguments(problem, cut, inputs, backward=True),
        )  # fmt: skip
        if cut.crew:
            pairs.check(compiled)
    return gradients(problem, inputs, scanned, found, dhn, dcn, wanted)
