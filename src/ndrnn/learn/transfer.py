"""What a network takes over from another one that is trained: weights by name and shape, outputs by what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_OUTPUTS = ("output", "auxiliary")
"""Modules of a network whose weights have a row for each output, and so often as a block has points."""


@dataclass(frozen=True)
class Transfer:
    """Weights for the network of a new task; see :func:`taken_over`."""

    whole: dict[str, Tensor]
    """Weights, and moments that norms keep, that fit as they are."""
    rows: dict[str, Tensor]
    """Those of outputs, of which the rows are taken that both networks know."""
    known: tuple[tuple[int, int], ...]
    """The numbers of these outputs here and there."""
    new: tuple[str, ...]
    """Outputs that begin anew, by name."""
    gone: tuple[str, ...]
    """Outputs that the trained network had alone."""
    left: dict[str, str]
    """Weights that begin anew, and why."""

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        """Put the weights into the network, which is of the task that they were chosen for."""
        state = model.state_dict()
        for name, value in self.whole.items():
            state[name].copy_(value)
        here, there = ([pair[side] for pair in self.known] for side in (0, 1))
        outputs = len(self.known) + len(self.new)
        for name, value in self.rows.items():
            own = state[name].view(-1, outputs, *value.shape[1:])
            own[:, here] = value.view(len(own), -1, *value.shape[1:])[:, there].to(own)

    def told(self, most: int = 8) -> list[str]:
        """Lines for people: how much is taken over, and what is not."""
        count = len(self.whole) + len(self.rows)
        lines = [f"{count} of {count + len(self.left)} tensors are taken over"]
        if self.rows and (self.new or self.gone):
            line = f"of the outputs {len(self.known)} are taken over"
            for what, names in (("new", self.new), ("gone", self.gone)):
                more = ", ..." if len(names) > 40 else ""
                line += f"; {what}: {', '.join(map(_shown, names[:40]))}{more}" if names else ""
            lines.append(line)
        lines += [f"begins anew: {name}, {reason}" for name, reason in list(self.left.items())[:most]]
        if len(self.left) > most:
            lines.append(f"and {len(self.left) - most} more begin anew")
        return lines


def taken_over(trained: nn.Module, task: Any) -> Transfer:
    """What the network of ``task`` can take over from ``trained``.

    Tensors fit that have the same name and the same shape. Of the outputs, those fit whose class or character both tasks
    know, in whatever order; the others begin anew.

    Args:
        trained: a :class:`ndrnn.learn.Task`, or a network alone.
        task: a :class:`ndrnn.learn.Task` with fresh weights.

    Raises:
        ValueError: no weight fits.
    """
    outputs = tuple(getattr(trained, "outputs", ()))
    old = getattr(trained, "model", trained).state_dict()
    places = {name: number for number, name in enumerate(outputs)}
    known = tuple((number, places[name]) for number, name in enumerate(task.outputs) if name in places)
    whole, rows, left = {}, {}, {}
    for name, value in task.model.state_dict().items():
        if name not in old:
            left[name] = "which the trained network does not have"
        elif name.partition(".")[0] in _OUTPUTS and outputs and task.outputs:
            if known and _same_but_for_outputs(value, old[name], len(task.outputs), len(outputs)):
                rows[name] = old[name]
            else:
                left[name] = _differs(value, old[name]) if known else "no output stands for the same"
        elif value.shape == old[name].shape:
            whole[name] = old[name]
        else:
            left[name] = _differs(value, old[name])
    if not any(name in whole or name in rows for name, _ in task.model.named_parameters()):
        first = next(iter(left.items()))
        raise ValueError(f"nothing of the trained network fits this one; the first: {' '.join(first)}")
    return Transfer(
        whole,
        rows,
        known,
        tuple(name for name in task.outputs if name not in places),
        tuple(name for name in outputs if name not in task.outputs),
        left,
    )


def frozen(model: nn.Module, parts: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """The weights that ``parts`` name: beginnings of names, such as ``encoder`` or ``layers.0``; or a number, for so many
    of the lowest levels.

    Raises:
        ValueError: a part names no weight, or all are named; the message says what there is.
    """
    weights = dict(model.named_parameters())
    found: dict[str, nn.Parameter] = {}
    for part in parts:
        beginnings = _lowest(model, int(part)) if part.isdecimal() else [part]
        chosen = {
            name: weight
            for name, weight in weights.items()
            if any(name == start or name.startswith(f"{start}.") for start in beginnings)
        }
        if not chosen:
            there = ", ".join(dict.fromkeys(name.partition(".")[0] for name in weights))
            raise ValueError(f"freeze: {part!r} names no weights of the network, which has {there}")
        found |= chosen
    if parts and len(found) == len(weights):
        raise ValueError(f"freeze: {', '.join(parts)} leave nothing to learn")
    return found


def _lowest(model: nn.Module, count: int) -> list[str]:
    """The names of what makes up so many of the lowest levels."""
    lists = ("windows", "layers", "encoder.levels")
    return [f"{name}.{level}" for name in lists for level in range(count)]


def _same_but_for_outputs(new: Tensor, old: Tensor, here: int, there: int) -> bool:
    return new.shape[1:] == old.shape[1:] and new.shape[0] * there == old.shape[0] * here


def _differs(new: Tensor, old: Tensor) -> str:
    return f"of shape {tuple(new.shape)}, which was {tuple(old.shape)}"


def _shown(name: str) -> str:
    return name if len(name) > 1 else repr(name)
