"""An oracle for layers: does a backend compute what the point-by-point reference does?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from copy import deepcopy

import torch
from torch import Tensor

from ..lattice import inside
from ..nn.batching import add_batch
from ..nn.scan_layer import ScanLayer
from ..nn.state import InitialState, State, as_state
from ..scan import backend

Results = dict[str, Tensor]

_GRADIENT = "the gradient by "

# What rounding may do, in units of the dtype's epsilon times the largest number that goes in or comes out (a small sum
# of large terms errs by the terms). There is no finer dtype by which to judge float64, so that it gets room for a long
# recurrence; the others are judged by what plain PyTorch makes of them, and this is only for results so few that its
# error is small by luck.
_ROUNDINGS = {torch.float64: 1e4, torch.float32: 32.0}
_ROUNDINGS_OF_HALF = 1.0


def assert_conforms(
    layer: ScanLayer,
    x: Tensor,
    sizes: Tensor | None = None,
    initial_state: InitialState | None = None,
    *,
    backends: Iterable[str] | None = None,
    gradients: bool = True,
) -> None:
    """Assert that a layer computes what the reference does in float64.

    Compared are the output, the states on the exit faces, the output without gradient tracking, and the gradients of
    a random linear function of all of these by ``x``, by the parameters and by the boundary states. The error of
    each may be twice that of the reference when this computes in the layer's own dtype, plus a few roundings;
    in float64, ten thousand roundings. Outside ``sizes`` the output must be exactly zero.

    The reference visits point after point: keep the lattice small.

    Args:
        layer: a layer on any device in any dtype; its parameters, gradients and mode are left alone.
        x: input (N, D1, ..., Dn, C), or unbatched without N, as the layer takes it.
        sizes: extents (N, n) of ragged samples.
        initial_state: boundary states, as the layer takes them.
        backends: names of the backends to try; without it, the one in force.
        gradients: whether to compare gradients, too.

    Raises:
        AssertionError: something differs; the message lists what, where and by how much.
    """
    if not isinstance(layer, ScanLayer):
        raise TypeError(f"layer must be a layer of ndrnn, got {type(layer).__name__}")
    state = None if initial_state is None else as_state(initial_state, layer.cell.memory, layer.ndim)
    exact = _in_float64(layer, x, sizes, state, gradients)
    covered = _covered(layer, x, sizes)
    scales = _scales(exact, x[covered])
    plain: Results | None = None
    for name in [None] if backends is None else backends:
        with nullcontext() if name is None else backend(name):  # type: ignore[arg-type]
            got = _results(layer, x, sizes, state, gradients)
        faults = []
        for what, value in got.items():
            allowed = _roundings(value.dtype, layer.weight_ih.dtype) * scales[what]
            if _error(value, exact[what]).gt(allowed).any() and layer.weight_ih.dtype != torch.float64:
                if plain is None:
                    with backend("reference"):
                        plain = _results(layer, x, sizes, state, gradients)
                allowed += 2 * float(_error(plain[what], exact[what]).max())
            faults += _compare(what, value, exact[what], allowed)
        if bool(got["y"][~covered].ne(0).any()):
            faults.append("y is not zero outside the sizes")
        if faults:
            where = "" if name is None else f" on the backend {name!r}"
            head = f"{layer} in {layer.weight_ih.dtype}{where} differs from the reference in float64:"
            raise AssertionError("\n  ".join([head, *faults]))


def _covered(layer: ScanLayer, x: Tensor, sizes: Tensor | None) -> Tensor:
    """Mask of the points within the extents, of the shape of x without its features."""
    if sizes is None:
        return torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
    batch, sizes, _ = add_batch(x, sizes, layer.ndim)
    assert sizes is not None
    return inside(sizes, batch.shape[1:-1]).view(x.shape[:-1])


def _in_float64(
    layer: ScanLayer, x: Tensor, sizes: Tensor | None, state: State | None, gradients: bool
) -> Results:
    def exact(value: Tensor) -> Tensor:
        return value.detach().to("cpu", torch.float64)

    with (
        backend("reference"),
        torch.autocast(x.device.type, enabled=False),
        torch.autocast("cpu", enabled=False),
    ):
        double = deepcopy(layer).to("cpu", torch.float64)
        sizes = None if sizes is None else sizes.cpu()
        return _results(double, exact(x), sizes, _mapped(state, exact), gradients)


def _results(
    layer: ScanLayer, x: Tensor, sizes: Tensor | None, state: State | None, gradients: bool
) -> Results:
    """Everything that is compared, by name."""
    x = x.detach().requires_grad_(gradients)
    state = _mapped(state, lambda face: face.detach().requires_grad_(gradients))
    entries = {} if state is None else _named("entry", state)
    with torch.no_grad():
        quietly = layer(x, sizes, state)
    with torch.set_grad_enabled(gradients):
        y, exits = layer(x, sizes, state, return_state=True)
    outputs = {"y": y, **_named("exit", exits)}
    results = {**outputs, "y without gradient tracking": quietly}
    if gradients:
        inputs = {"x": x, **entries, **{k: p for k, p in layer.named_parameters() if p.requires_grad}}
        generator = torch.Generator().manual_seed(0)
        random = [torch.randn(o.shape, generator=generator, dtype=torch.float64) for o in outputs.values()]
        # rounded in one and the same way for every dtype of the layer
        weights = [r.to(torch.bfloat16).to(o) for r, o in zip(random, outputs.values(), strict=True)]
        reached = [(o, w) for o, w in zip(outputs.values(), weights, strict=True) if o.requires_grad]
        for name, value in inputs.items():
            results[_GRADIENT + name] = torch.zeros_like(value)
        if reached:
            found = torch.autograd.grad(
                [o for o, _ in reached],
                list(inputs.values()),
                [w for _, w in reached],
                materialize_grads=True,
            )
            results |= {_GRADIENT + name: g for name, g in zip(inputs, found, strict=True)}
    return {name: value.detach() for name, value in results.items()}


def _scales(exact: Results, x: Tensor) -> dict[str, float]:
    """For each result the size of the numbers that it may be a sum of: those of its pass, forward or backward."""
    backward = {name for name in exact if name.startswith(_GRADIENT)}
    forward_scale = max(_largest(x), *(_largest(exact[name]) for name in exact if name not in backward))
    # what the backward pass starts from is of the order of 1
    backward_scale = max(1.0, *(_largest(exact[name]) for name in backward), 0.0)
    return {name: backward_scale if name in backward else forward_scale for name in exact}


def _mapped(state: State | None, change: Callable[[Tensor], Tensor]) -> State | None:
    if state is None:
        return None
    c = None if state.c is None else tuple(map(change, state.c))
    return State(tuple(map(change, state.h)), c)


def _named(prefix: str, state: State) -> dict[str, Tensor]:
    return {
        f"{prefix} face {axis} of {part}": face
        for part, faces in zip(state._fields, state, strict=True)
        for axis, face in enumerate(faces or ())
    }


def _roundings(*dtypes: torch.dtype) -> float:
    """The room for rounding, relative to the largest value, in the coarsest of some dtypes."""
    coarsest = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    return _ROUNDINGS.get(coarsest, _ROUNDINGS_OF_HALF) * torch.finfo(coarsest).eps


def _largest(values: Tensor) -> float:
    finite = values[values.isfinite()].abs()
    return float(finite.max()) if finite.numel() else 0.0


def _error(got: Tensor, exact: Tensor) -> Tensor:
    """Absolute differences; infinite where only one is a number, zero where the two are the same infinity or NaN."""
    got = got.to("cpu", torch.float64)
    if got.shape != exact.shape:
        return torch.full_like(got, torch.inf) if got.numel() else torch.tensor([torch.inf])
    same = (got == exact) | (got.isnan() & exact.isnan())
    error = (got - exact).abs().nan_to_num(torch.inf, torch.inf)
    return error.masked_fill(same, 0) if error.numel() else torch.zeros(1)


def _compare(what: str, got: Tensor, exact: Tensor, allowed: float) -> list[str]:
    """What is wrong with a result, as at most one line."""
    if got.shape != exact.shape:
        return [f"{what} has the shape {tuple(got.shape)} instead of {tuple(exact.shape)}"]
    error = _error(got, exact)
    wrong = int((error > allowed).sum())
    if not wrong:
        return []
    worst = int(error.argmax())
    place = [int(index) for index in torch.unravel_index(torch.tensor(worst), exact.shape)]
    return [
        f"{what} {tuple(got.shape)}: {wrong} of {exact.numel()} elements are off; the worst, at {place}, is "
        f"{float(got.flatten()[worst]):.9g} instead of {float(exact.flatten()[worst]):.9g}, "
        f"off by {float(error.flatten()[worst]):.2g} where {allowed:.2g} is allowed"
    ]
