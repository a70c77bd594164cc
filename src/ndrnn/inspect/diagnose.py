"""What makes recurrence over several axes fail without an error: growing memories, shut gates, short gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite

import torch
from torch import Tensor

from ..cells import Cell, Tensors
from ..lattice import Direction, check_sizes, face_points, inside
from ..nn.batching import add_batch
from ..nn.scan_layer import ScanLayer
from ..scan import scan, wavefront

NEAR_LIMIT = 0.05
"""A gate counts as saturated within this share of its range from a limit."""
LEAST_GRADIENT = 0.01
"""The gradient reaches as far as it keeps this share of its norm at the output."""
LARGEST_STATE = 1e3
"""States beyond this are taken for exploding; a cell of default weights stays far within."""


@dataclass(frozen=True)
class DirectionReport:
    """What one direction of a layer does with an input."""

    direction: Direction
    forget_sum_mean: float | None
    """Mean of the sum of the forget gates (of the shares kept, in a GRU); None for a cell without."""
    forget_sum_max: float | None
    largest_state: float
    """The largest absolute memory c, or output h for a cell without memory."""
    saturation: dict[str, tuple[float, float]]
    """For every gate the shares of its values, between 0 and 1, that are near its lower and its upper limit."""
    reach: tuple[int, ...]
    """By axis, how many points back from the last point scanned the gradient keeps 1 % of its norm."""
    gradient_growth: float
    """The largest norm of the gradient on a slice of the lattice over that at the output's own slice."""


@dataclass(frozen=True)
class Diagnosis:
    """The report of :func:`diagnose`; ``str`` lays it out for reading."""

    layer: str
    lattice: tuple[int, ...]
    directions: tuple[DirectionReport, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        head = f"{self.layer} on {' x '.join(map(str, self.lattice))} points"
        columns = ("direction", "sum of f", "max", "max |state|", "reach", "gates near a limit, % low/high")
        rows = [columns, *map(_row, self.directions)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(columns) - 1)]
        table = [
            "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]])
            for row in rows
        ]
        return "\n".join([head, *table, *(f"! {warning}" for warning in self.warnings)])


def diagnose(layer: ScanLayer, x: Tensor, sizes: Tensor | None = None) -> Diagnosis:
    """Report what a layer does with an input, direction by direction, and warn of what will hinder learning.

    The gradient's reach is that of a random combination of the outputs at the last point scanned, by the inputs: the
    norm over all points at the same distance along an axis, compared with that at distance 0. Costs about as much
    time and memory as a training step of plain PyTorch, and another for every direction.

    Args:
        layer: any layer.
        x: a typical input (N, D1, ..., Dn, C), or unbatched without N, of the same scale as in training.
        sizes: extents (N, n) of ragged samples.

    Raises:
        ValueError: ``x`` has no points, or does not fit the layer.
        TypeError: an argument is of the wrong kind.
    """
    if not isinstance(layer, ScanLayer):
        raise TypeError(f"layer must be a layer of ndrnn, got {type(layer).__name__}")
    layer.check_input(x)
    x, sizes, _ = add_batch(x, sizes, layer.ndim)
    lattice = tuple(x.shape[1:-1])
    if x.numel() == 0:
        raise ValueError(f"x must have at least one sample and one point, got shape {tuple(x.shape)}")
    x = x.detach().to(layer.weight_ih.dtype)
    if sizes is not None:
        sizes = check_sizes(sizes, x.shape[0], lattice)
        if not sizes.prod(1).any():
            raise ValueError("sizes must leave at least one point")
    with torch.autocast(x.device.type, enabled=False):
        gates, states = _watch(layer, x, sizes)
        profiles = [_gradient_profiles(layer, x, sizes, d) for d in range(len(layer.directions))]
    reports = tuple(
        _report(layer, d, {name: value[d] for name, value in gates.items()}, states[d], profiles[d])
        for d in range(len(layer.directions))
    )
    return Diagnosis(
        str(layer),
        lattice,
        reports,
        tuple(_warnings(reports, layer.cell, lattice, layer.cell.limit(x.dtype))),
    )


def _report(
    layer: ScanLayer, d: int, gates: dict[str, Tensor], states: Tensor, profiles: Sequence[Tensor]
) -> DirectionReport:
    kept = [value for name, value in gates.items() if layer.cell.carries(name)]
    total = torch.stack(kept).sum(0) if kept else None
    return DirectionReport(
        direction=layer.directions[d],
        forget_sum_mean=None if total is None else float(total.mean()),
        forget_sum_max=None if total is None else float(total.max()),
        largest_state=float(states.abs().nan_to_num(inf, inf).max()),
        saturation={name: _saturation(v, *layer.cell.gate_range(name)) for name, v in gates.items()},
        reach=tuple(_reach(profile) for profile in profiles),
        gradient_growth=max(float(p.max() / p[0]) if p[0] > 0 else 0.0 for p in profiles),
    )


class _Watched(Cell):
    """A cell that keeps the values of its gates and its states."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.steps: list[dict[str, Tensor]] = []
        self.states: list[Tensor] = []

    @property
    def feeds_memory(self) -> bool:
        return self.cell.feeds_memory

    def gates(self, ndim: int) -> tuple[str, ...]:
        return self.cell.gates(ndim)

    def step(
        self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors
    ) -> tuple[Tensor, Tensor | None]:
        self.steps.append(self.cell.gate_values(a, u, h, c, extra))
        new_h, new_c = self.cell.step(a, u, h, c, extra)
        self.states.append(new_h if new_c is None else new_c)
        return new_h, new_c


@torch.no_grad()
def _watch(layer: ScanLayer, x: Tensor, sizes: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
    """The values of every gate and the states at all points within the extents, each (D, points, H)."""
    lattice = x.shape[1:-1]
    watched = _Watched(layer.cell)
    shape = (len(layer.directions), x.shape[0], sum(face_points(lattice)), layer.hidden_size)
    outside = x.new_zeros(shape)
    memory = outside if layer.cell.memory else None
    wavefront.scan(watched, x, layer.params, layer.directions, sizes, outside, memory)

    def gather(wavefronts: list[Tensor]) -> Tensor:
        # (D, N, P, H) in the order of the wavefronts, which is one and the same for all directions
        values = torch.cat(wavefronts, dim=2).float()
        if sizes is None:
            return values.flatten(1, 2)
        return values[:, inside(sizes, lattice).flatten(1)[:, wavefront.by_wavefront(lattice, x.device)]]

    names = watched.steps[0]
    return {name: gather([step[name] for step in watched.steps]) for name in names}, gather(watched.states)


def _gradient_profiles(layer: ScanLayer, x: Tensor, sizes: Tensor | None, d: int) -> list[Tensor]:
    """By axis, the norm of the gradient on each slice of the lattice, by its distance from the last point scanned."""
    lattice, direction = x.shape[1:-1], layer.directions[d]
    x = x.detach().requires_grad_()
    with torch.enable_grad(), _frozen(layer):
        y, _ = scan(layer.cell, x, layer.params, layer.directions, sizes)
        extents = torch.tensor(lattice, device=x.device).expand(len(x), -1) if sizes is None else sizes
        used = extents.prod(1).nonzero().squeeze(1)
        last = torch.where(torch.tensor(direction, device=x.device) > 0, extents - 1, 0)[used]
        outputs = y[(used, *last.unbind(1))][:, d]
        signs = torch.randint(0, 2, outputs.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        (gradient,) = torch.autograd.grad((outputs * signs.to(outputs)).sum(), x)
    energy = gradient[used].double().square().sum(-1)
    profiles = []
    for axis, extent in enumerate(lattice):
        others = [1 + other for other in range(len(lattice)) if other != axis]
        by_position = energy.sum(others) if others else energy
        distance = (torch.arange(extent, device=x.device) - last[:, axis, None]).abs()
        profile = energy.new_zeros(extent).index_add(0, distance.flatten(), by_position.flatten())
        profiles.append(profile.sqrt())
    return profiles


@contextmanager
def _frozen(layer: ScanLayer) -> Iterator[None]:
    """Spares the gradients by the parameters."""
    flags = [(parameter, parameter.requires_grad) for parameter in layer.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _reach(profile: Tensor) -> int:
    far_enough = (profile >= LEAST_GRADIENT * profile[0]) & (profile > 0)
    return int(far_enough.nonzero().max()) if far_enough.any() else 0


def _saturation(values: Tensor, low: float, high: float) -> tuple[float, float]:
    margin = NEAR_LIMIT * (high - low) if isfinite(high) else 0.0
    return float((values <= low + margin).float().mean()), float((values >= high - margin).float().mean())


def _row(report: DirectionReport) -> tuple[str, ...]:
    signs = "(" + ", ".join(f"{sign:+d}" for sign in report.direction) + ")"
    sums = ["-" if v is None else f"{v:.2f}" for v in (report.forget_sum_mean, report.forget_sum_max)]
    gates = ", ".join(f"{name} {low:.0%}/{high:.0%}" for name, (low, high) in report.saturation.items())
    reach = ", ".join(map(str, report.reach))
    return (signs, *sums, f"{report.largest_state:.3g}", reach, gates.replace("%", "") or "-")


def _stuck(gate: str, report: DirectionReport) -> float:
    return sum(report.saturation[gate])


def _reach_along(axis: int, report: DirectionReport) -> float:
    return report.reach[axis]


def _warnings(
    reports: Sequence[DirectionReport], cell: Cell, lattice: tuple[int, ...], most: float
) -> Iterator[str]:
    """Every problem once, with its worst value and the directions that have it; states saturate at ``most``."""

    def worst(
        value: Callable[[DirectionReport], float], limit: float, *, below: bool = False
    ) -> tuple[float, str] | None:
        """The value furthest beyond a limit and the directions beyond it; NaN counts as beyond."""
        found = {report.direction: value(report) for report in reports}
        beyond = {d: v for d, v in found.items() if not (v >= limit if below else v <= limit)}
        if not beyond:
            return None
        where = (
            "in all directions"
            if len(beyond) == len(found)
            else f"in direction {', '.join(map(str, beyond))}"
        )
        return (min if below else max)(beyond.values()), where

    if reports[0].forget_sum_mean is not None:
        if high := worst(lambda report: report.forget_sum_mean or 0.0, 1.05):
            yield (
                f"{high[1]} the forget gates sum to up to {high[0]:.2f} on average: above 1 a memory grows with the "
                "number of paths through the lattice. Start their biases at or below -log(n - 1) for n axes, as "
                "reset_parameters() does, or use StableMDLSTM or LeakyMDLSTM, whose memories cannot grow so."
            )
        if low := worst(lambda report: report.forget_sum_mean or 0.0, 0.3, below=True):
            yield (
                f"{low[1]} the forget gates sum to as little as {low[0]:.2f} on average: little is left of a memory "
                "after a few points. Raise their biases until the sum is near 1."
            )
    if state := worst(lambda report: report.largest_state, LARGEST_STATE):
        told = f"{state[0]:.2g}" if state[0] < most else f"{most:.2g}, the limit at which they saturate"
        yield (
            f"{state[1]} states reach {told}. Scale the input to unit variance, draw the weights anew with "
            "reset_parameters(), or clip gradients if this came up in training."
        )
    for gate in reports[0].saturation:
        if cell.rests_at_limits(gate):
            continue
        dead = not isfinite(cell.gate_range(gate)[1])
        if stuck := worst(partial(_stuck, gate), 0.9 if dead else 0.5):
            yield (
                f"{stuck[1]} up to {stuck[0]:.0%} of the values of {gate} are "
                + ("zero" if dead else "at a limit")
                + " and pass almost no gradient. Scale the input to unit variance, or lower the learning rate."
            )
    for axis, extent in enumerate(lattice):
        if short := worst(partial(_reach_along, axis), min(0.1 * extent, 10), below=True):
            advice = (
                "Use a cell with a memory"
                if reports[0].forget_sum_mean is None
                else "Move the sum of the forget gates towards 1"
            )
            yield (
                f"{short[1]} an output learns from no more than {short[0]} points back along axis {axis}, of {extent}. "
                f"{advice}, or make the lattice coarser by blocks of points."
            )
    if growth := worst(lambda report: report.gradient_growth, 1e3):
        yield (
            f"{growth[1]} the gradient grows up to {growth[0]:.2g}-fold on its way back. Clip gradients, or draw "
            "smaller recurrent weights."
        )
