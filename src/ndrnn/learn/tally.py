"""What a task has counted of samples, as plain values that can be added to those of other samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection


def tally(task: Any) -> dict[str, Any]:
    """What a task's ``check`` has counted since the last call of its ``results``: states of metrics as nested lists, and the
    plain numbers that the task names in ``counted``."""
    found: dict[str, Any] = {name: getattr(task, name) for name in _counted(task)}
    for name, metric in _metrics(task):
        for state, value in _states(name, metric).items():
            found[f"{name}.{state}"] = value.tolist()
    return found


def add(task: Any, counts: Mapping[str, Any]) -> None:
    """Take into account what another one of the same settings and facts has counted: its :func:`tally`.

    Raises:
        ValueError: it counts other things.
    """
    numbers, metrics = _counted(task), dict(_metrics(task))
    names = {f"{name}.{state}" for name, metric in metrics.items() for state in metric.metric_state}
    if counts.keys() != {*numbers, *names}:
        raise ValueError(
            f"counts must be of {', '.join(sorted({*numbers, *names}))}, got {', '.join(sorted(counts))}"
        )
    for name in numbers:
        setattr(task, name, getattr(task, name) + counts[name])
    for name, metric in metrics.items():
        incoming = {}
        for state, own in _states(name, metric).items():
            value = torch.tensor(counts[f"{name}.{state}"], dtype=own.dtype)
            if value.shape != own.shape:
                raise ValueError(
                    f"{name}.{state} must be of shape {tuple(own.shape)}, got {tuple(value.shape)}"
                )
            incoming[state] = value
        metric.merge_state(incoming)
        metric._update_count += 1  # or it warns that there is nothing to compute


def _counted(task: Any) -> tuple[str, ...]:
    if task.counted is None:
        raise ValueError(
            f"samples cannot be checked in parts by a {type(task).__name__}: it does not say what it counts"
        )
    return task.counted


def _states(name: str, metric: Metric) -> dict[str, Tensor]:
    states = {}
    for state, value in metric.metric_state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} keeps all samples, and cannot be added up")
        states[state] = value
    return states


def _metrics(task: Any) -> Iterator[tuple[str, Metric]]:
    for name, module in task.named_children():
        if isinstance(module, MetricCollection):
            # only by this way do metrics that share their states have those of the last batch
            for key, metric in module.items(keep_base=True, copy_state=False):
                yield f"{name}.{key}", metric
        elif isinstance(module, Metric):
            yield name, module
