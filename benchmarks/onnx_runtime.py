"""Exported layers in ONNX Runtime beside the same layers here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

import ndrnn

from .measure import Call, Effort, in_turn, inference, threads
from .table import Table
from .workloads import Workload


def _session(workload: Workload) -> tuple[Any, int]:
    """A session of one thread on the file of a layer, and the bytes of the file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with TemporaryDirectory() as folder:
        path = Path(folder) / "layer.onnx"
        ndrnn.onnx.export(workload.build(), path, sizes=False)
        return onnxruntime.InferenceSession(path, options), path.stat().st_size


def table(workloads: Sequence[Workload], effort: Effort, progress: Callable[[str], None]) -> Table:
    import onnxruntime

    result = Table(
        f"Inference by ONNX Runtime {onnxruntime.__version__} beside PyTorch, one thread",
        {
            "workload": "",
            "file, kB": ".0f",
            "ONNX Runtime, ms": ".3g",
            "cpu backend, ms": ".3g",
            "times": ".3g",
            "wavefront backend, ms": ".3g",
            "largest difference": ".1e",
        },
    )
    for workload in workloads:
        progress(workload.name)
        session, size = _session(workload)
        layer, x = workload.build(), workload.input()
        given = {"x": x.numpy()}
        run = inference(layer, x)

        def plain(run: Call = run) -> object:
            with ndrnn.backend("wavefront"):
                return run()

        with threads(1):
            (found,), expected = session.run(None, given), run()
            assert isinstance(expected, torch.Tensor)
            calls: dict[str, Call] = {
                "onnx": lambda session=session, given=given: session.run(None, given),
                "cpu": run,
                "wavefront": plain,
            }
            times = in_turn(calls, effort)
        result.add(
            workload.name,
            size / 1000,
            1e3 * min(times["onnx"].seconds),
            1e3 * min(times["cpu"].seconds),
            times["cpu"].ratio(times["onnx"]),
            1e3 * min(times["wavefront"].seconds),
            float(np.abs(found - expected.numpy()).max()),
        )
    result.notes.append("Times are the least of all rounds, the ratio is the median over rounds.")
    return result
