"""``ndrnn.onnx.export``: from a module to a file, by torch.export and the exporter of PyTorch."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from ..nn.evaluating import evaluating
from ..nn.layouts import ChannelsFirst, TimeFirst
from ..nn.scan_layer import ScanLayer
from ..registry import models
from ..saving.atomic import replacing
from ..scan import backend
from ..version import __version__

try:
    import onnx_ir as ir

    from .cells import EQUATIONS
    from .operators import translations
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("onnx", "onnxscript", "onnx_ir"):
        raise
    raise ImportError("exporting to ONNX needs onnx and onnxscript: pip install 'ndrnn[onnx]'") from error

OPSET = 18
"""The version of ONNX's operators that files are written for."""
METADATA = "ndrnn"
"""The key in a file's ``metadata_props`` of what there is to know of it, as JSON."""

_DENSITIES = ("MCGSM", "RIDE", "PlaneModel", "MultiscaleRIDE", "LumaChromaRIDE", "DensityTask")
_LOGGERS = ("torch", "torch.onnx", "onnxscript", "onnx_ir")
_MOST_BYTES = 2**31 - 2**20  # of a protobuf message, and some for the graph


def export(
    module: nn.Module,
    path: str | PathLike[str],
    *,
    sizes: bool = True,
    outputs: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    r"""Write a layer or a network as an ONNX file, with free batch and extents.

    The file takes ``x`` (N, D1, ..., Dn, C), or what a :class:`ndrnn.ChannelsFirst` takes, and with ``sizes`` the extents
    ``sizes`` (N, n) int64 of ragged samples; it gives ``y`` and, of a network that has ``output_sizes``, the extents of
    the output as ``y_sizes``. It holds the module in evaluation mode, in one file, whole or not at all.

    Args:
        module: a layer, :class:`ndrnn.Stack`, :class:`ndrnn.Hierarchy`, a network of :mod:`ndrnn.nn.networks`, or a
            module of your own that takes ``x`` and ``sizes``, with the attributes ``ndim`` and ``input_size``. Its
            weights are float32 or float64.
        path: ends in ``.onnx``.
        sizes: whether the file takes ``sizes``. Without, all samples fill their lattice, and the file is a little
            quicker.
        outputs: names of the outputs, of a module that gives several.
        metadata: what else there is to know, as JSON can hold it; it stands in the file's ``metadata_props`` under
            ``"ndrnn"``, beside the version, the module's name, ``ndim`` and ``input_size``.

    Raises:
        TypeError: the module is none that can be exported, such as a density model or a layer with a cell of your own.
        ValueError: the path has another ending, or the module gives or takes states.
        RuntimeError: the compiled kernels are not available, by whose operators the export goes; or the module does
            something that has no counterpart in ONNX.
        ImportError: onnx or onnxscript is not installed.

    Example:
        >>> ndrnn.onnx.export(ndrnn.MDGRU(3, 8), "layer.onnx")           # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession("layer.onnx")         # doctest: +SKIP
        >>> (y,) = session.run(None, {"x": x, "sizes": sizes})           # doctest: +SKIP
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"path must end in .onnx, got {str(path)!r}")
    ndim, features = _check(module)
    told = {
        "ndrnn": __version__,
        "model": models.name_of(type(module)) or type(module).__name__,
        "ndim": ndim,
        "input_size": features,
        **(metadata or {}),
    }
    try:
        described = json.dumps(told, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must hold what JSON can: {error}") from error
    with _quiet():
        program = _program(_on_cpu(module), ndim, features, sizes)
        try:
            written = torch.onnx.export(
                program,
                custom_translation_table=translations(),
                opset_version=OPSET,
                input_names=["x", "sizes"][: 1 + sizes],
                output_names=list(outputs) if outputs else _names(program),
                verbose=False,
                optimize=False,  # runtimes do that when they load a file
            )
        except torch.onnx.OnnxExporterError as error:
            raise _told(error, f"{type(module).__name__} has no counterpart in ONNX") from error
        model = written.model  # type: ignore[union-attr]
        _tidy(model.graph, _axes(module, ndim))
        model.metadata_props[METADATA] = described
        model.producer_name, model.producer_version = "ndrnn", __version__
        with replacing(path) as temporary:
            written.save(str(temporary), external_data=False)  # type: ignore[union-attr]


def _check(module: nn.Module) -> tuple[int, int]:
    """The module's number of axes and of features, if it is one that can be exported."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    name = type(module).__name__
    if models.name_of(type(module)) in _DENSITIES:
        raise TypeError(
            f"{name} is a density model, which gives no values at points but samples, bits and files: it cannot be "
            "exported; layers and networks that take x and sizes can"
        )
    ndim, features = getattr(module, "ndim", None), getattr(module, "input_size", None)
    if not isinstance(ndim, int) or not isinstance(features, int):
        within = (
            "; export its attribute model" if isinstance(getattr(module, "model", None), nn.Module) else ""
        )
        raise TypeError(
            "module must be a layer or network of ndrnn, or have the numbers of its axes and features as ndim and "
            f"input_size, got {name}{within}"
        )
    for layer in module.modules():
        if isinstance(layer, ScanLayer) and layer.cell.kernel not in EQUATIONS:
            raise TypeError(
                f"the cell {type(layer.cell).__name__} has no equations in ONNX; those of this library have"
            )
    size = 0
    for name, weight in [*module.named_parameters(), *module.named_buffers()]:
        if weight.is_floating_point() and weight.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"weights must be float32 or float64, got {weight.dtype} for {name}; see module.float()"
            )
        size += weight.numel() * weight.itemsize
    if size > _MOST_BYTES:
        raise ValueError(f"module must have less than 2 GiB of weights to be one file, got {size:,} bytes")
    return ndim, features


def _on_cpu(module: nn.Module) -> nn.Module:
    tensors = [*module.parameters(), *module.buffers()]
    return module if all(tensor.device.type == "cpu" for tensor in tensors) else copy.deepcopy(module).cpu()


class _WithSizes(nn.Module):
    """A module, and the extents of its output where it tells them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, sizes: Tensor) -> Any:
        y = self.module(x, sizes)
        output_sizes = getattr(self.module, "output_sizes", None)
        return y if output_sizes is None or isinstance(y, tuple) else (y, output_sizes(sizes) + 0)


def _program(module: nn.Module, ndim: int, features: int, sizes: bool) -> torch.export.ExportedProgram:
    """The module for a free batch and free extents, traced with the compiled operators whatever is set."""
    dtype = next((weight.dtype for weight in module.parameters()), torch.float32)
    # so large that no level of a network comes to a single point, which would look like a fixed one
    lattice = [max(2, round(1e6 ** (1 / ndim))) + 7 * axis for axis in range(ndim)]
    axes = _axes(module, ndim)
    extents = {"N": 2, "C": features, **{f"D{axis + 1}": size for axis, size in enumerate(lattice)}}
    free = {name: torch.export.Dim(name, min=1) for name in axes if name != "C"}
    # nothing is computed: of one element in memory
    x = torch.zeros(1, dtype=dtype).expand([extents[name] for name in axes])
    shapes: tuple[Any, ...] = ({place: free[name] for place, name in enumerate(axes) if name != "C"},)
    given: tuple[Tensor, ...] = (x,)
    if sizes:
        given, shapes = (x, torch.tensor([lattice, lattice])), (*shapes, {0: free["N"]})
    try:
        with evaluating(module), torch.no_grad(), backend("cpu"):
            traced = _WithSizes(module) if sizes else module
            return torch.export.export(traced.eval(), given, dynamic_shapes=shapes, strict=False)
    except (torch._dynamo.exc.UserError, GuardOnDataDependentSymNode) as error:
        what = "does not pass torch.export with free batch and extents"
        raise _told(error, f"{type(module).__name__} {what}") from error


def _axes(module: nn.Module, ndim: int) -> list[str]:
    """The names of the axes of x."""
    lattice = [f"D{axis + 1}" for axis in range(ndim)]
    if isinstance(module, ChannelsFirst):
        return ["N", "C", *lattice]
    if isinstance(module, TimeFirst):
        return [*lattice, "N", "C"]
    return ["N", *lattice, "C"]


def _tidy(graph: ir.Graph, axes: Sequence[str]) -> None:
    """Name the free sizes as here, and leave out the lines of source code that the exporter notes with their paths."""
    assert graph.inputs[0].shape is not None
    names = {str(size): name for size, name in zip(graph.inputs[0].shape, axes, strict=True)}
    for value in [*graph.inputs, *(value for node in graph for value in node.outputs)]:
        if value.shape is not None:
            value.shape = ir.Shape(
                [
                    names.get(str(size), str(size)) if isinstance(size, ir.SymbolicDim) else size
                    for size in value.shape
                ]
            )
    for node in graph.all_nodes():
        node.metadata_props.clear()


def _names(program: torch.export.ExportedProgram) -> list[str]:
    count = len(program.graph_signature.user_outputs)
    return ["y", *(["y_sizes"] if count == 2 else [f"y_{number}" for number in range(2, count + 1)])]


def _told(error: BaseException, what: str) -> Exception:
    """An error of the exporter by its cause."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    own = next((cause for cause in causes if type(cause) is ValueError), None)
    if own is not None:
        return ValueError(str(own))
    return RuntimeError(f"{what}: {str(causes[-1]).strip().splitlines()[0]}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells of itself."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
