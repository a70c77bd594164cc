"""The others that compute the same: each turns a workload into the same two calls."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import nn

import ndrnn

from .child import measure_apart
from .limits import OutOfTime, time_limit
from .measure import Call, Effort, calls_of, in_turn, inference, training_step
from .table import Value
from .workloads import Workload

KINDS = ("inference", "training")
LOOP_EXTENT = 8  # points an axis on which a point-by-point loop is timed
COMPILE_SECONDS = 60


@dataclass(frozen=True)
class Peer:
    """``ratios`` tells how many times longer than ours it takes, (inference, training), or why it does not run."""

    name: str
    ratios: Callable[[Workload, Effort], Value]


def _on(backend: Literal["wavefront", "reference"], calls: dict[str, Call]) -> dict[str, Call]:
    def on_backend(call: Call) -> Call:
        def run() -> object:
            with ndrnn.backend(backend):
                return call()

        return run

    return {kind: on_backend(call) for kind, call in calls.items()}


def _against(
    ours: dict[str, Call], theirs: dict[str, Call], effort: Effort, scale: float = 1.0
) -> list[float]:
    """How many times longer their calls take; ``scale`` carries a part of their work to the whole."""
    return [scale * _ratio(ours[kind], theirs[kind], effort) for kind in KINDS]


def _ratio(ours: Call, theirs: Call, effort: Effort) -> float:
    times = in_turn({"ours": ours, "theirs": theirs}, effort)
    return times["ours"].ratio(times["theirs"])


def _wavefront(workload: Workload, effort: Effort) -> Value:
    return _against(calls_of(workload), _on("wavefront", calls_of(workload)), effort)


def _clipped(workload: Workload) -> Workload:
    return replace(workload, lattice=tuple(min(extent, LOOP_EXTENT) for extent in workload.lattice))


def _loop(workload: Workload, effort: Effort) -> Value:
    small = _clipped(workload)
    return _against(
        calls_of(workload), _on("reference", calls_of(small)), effort, workload.points / small.points
    )


def _torch_lstm(workload: Workload, effort: Effort) -> Value:
    lstm = nn.LSTM(
        workload.input_size, workload.hidden_size, batch_first=True, bidirectional=workload.directions is None
    )
    x = workload.input()
    theirs = {
        "inference": inference(lstm, x),
        "training": training_step(lstm, x, output_of=lambda output: output[0]),
    }
    return _against(calls_of(workload), theirs, effort)


def _compiled(workload: Workload, effort: Effort) -> Value:
    # the compiler may take for ever, and only a process of its own can be stopped
    answer = measure_apart(
        "compiled",
        workload,
        effort,
        timeout=3 * COMPILE_SECONDS + 20 * effort.seconds,
        environment={"TORCHINDUCTOR_COMPILE_THREADS": "1"},  # leaves no helpers behind when it is stopped
    )
    if isinstance(answer, str):
        return answer
    return [answer[kind] for kind in KINDS if kind in answer] or f"compiles for over {COMPILE_SECONDS} s"


def _keras(workload: Workload, effort: Effort) -> Value:
    if importlib.util.find_spec("mdrnn") is None:
        return "not installed"
    small = _clipped(workload)
    answer = measure_apart("keras", small, effort, timeout=300)
    if isinstance(answer, str):
        return answer
    ours = in_turn(calls_of(workload), effort)
    scale = workload.points / small.points
    return [scale * answer[kind] / ours[kind].median for kind in KINDS]


WAVEFRONT = Peer("wavefront", _wavefront)
COMPILED = Peer("torch.compile of wavefront", _compiled)
LOOP = Peer("point-by-point loop (extrapolated)", _loop)
KERAS = Peer("Keras mdrnn (extrapolated)", _keras)
TORCH_LSTM = Peer("torch.nn.LSTM", _torch_lstm)


def time_compiled(workload: Workload, effort: Effort) -> dict[str, float]:
    """Run in a process of its own: ratios of ``torch.compile``'s wavefront scan, as far as it compiles in time."""
    x = workload.input()
    compiled = cast(nn.Module, torch.compile(workload.build(), dynamic=False))
    theirs = {"inference": inference(compiled, x), "training": training_step(compiled, x)}
    ratios: dict[str, float] = {}
    for kind, call in _on("wavefront", theirs).items():
        try:
            with time_limit(COMPILE_SECONDS):
                call()
        except OutOfTime:
            break
        ratios[kind] = _ratio(calls_of(workload)[kind], call, effort)
    return ratios


def time_keras(workload: Workload, effort: Effort) -> dict[str, float]:
    """Run in a process of its own: seconds of the Keras package's layer, point by point like itself."""
    import numpy as np
    import tensorflow as tf
    from mdrnn import MDLSTM, MultiDirectional

    np.float = float  # type: ignore[attr-defined]  # the package wants the alias that numpy 1.24 dropped

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    shape = (*workload.lattice, workload.input_size)
    layer = MultiDirectional(MDLSTM(workload.hidden_size, shape, return_sequences=True))
    x = tf.Variable(workload.input().numpy())

    def step() -> object:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(x))
        weights = [weight for rnn in layer._rnns for weight in rnn.trainable_variables]
        return tape.gradient(total, [x, *weights])

    times = in_turn({"inference": lambda: layer(x), "training": step}, effort)
    return {kind: times[kind].median for kind in KINDS}
