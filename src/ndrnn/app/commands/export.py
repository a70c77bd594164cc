"""``ndrnn export``: a trained model as an ONNX file that holds all there is to know for using it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ... import onnx
from ...data.readers.source import Reader
from ...learn.task import Task
from ...tasks.use import use_of
from ..card import figures
from ..options import Export
from ..output import Output
from ..outputs import Outputs
from ..trained import load


def run(options: Export) -> int:
    """Run the command; returns the exit status."""
    out = Output(options.json)
    if options.out.suffix != ".onnx":
        raise ValueError(f"--out must end in .onnx, got {str(options.out)!r}")
    model, reader, file = load(options.model)
    path = Outputs(force=options.force, originals=[file]).claim(options.out)
    metadata: dict[str, Any] = {"license": options.license} if options.license else {}
    names = None
    if isinstance(model, Task):
        told, names, module = _of_task(model, reader, file)
        metadata = {**told, **metadata}
    else:
        module = model
    path.parent.mkdir(parents=True, exist_ok=True)
    with out.others():
        onnx.export(module, path, outputs=names, metadata=metadata)
    size = path.stat().st_size
    out.say(f"{path}: {size:,} bytes, ONNX operators of version {onnx.OPSET}")
    out.result({"file": str(path), "bytes": size, "opset": onnx.OPSET, **metadata})
    return 0


def _of_task(task: Any, reader: Reader | None, file: Path) -> tuple[dict[str, Any], list[str], nn.Module]:
    """What the file tells of a task, the names of its outputs, and the module that gives them."""
    purpose, facts = use_of(task).purpose, task.facts
    if purpose == "density":
        raise ValueError(
            f"{file}: is a density model, which gives no values at points but samples, bits and files; it cannot be "
            "exported"
        )
    told: dict[str, Any] = {"task": purpose, "network": type(task.model).__name__}
    if purpose == "transcribe":
        told |= {"alphabet": facts.alphabet, "blank": 0}
        module: nn.Module = _Read(task)
    else:
        told["classes"] = list(facts.classes)
        module = _Named(task) if purpose == "classify" else _Labelled(task)
    if task.temperature != 1:
        told["temperature"] = task.temperature
    told["input"] = {"channels": facts.channels, **(_reading(reader) if reader is not None else {})}
    found = figures(file.parent, task.monitor)
    return {**told, **({"metrics": found} if found else {})}, list(_OUTPUTS[purpose]), module


_OUTPUTS = {
    "label": ("probabilities",),
    "classify": ("probabilities",),
    "transcribe": ("log_probs", "frames"),
}


def _reading(reader: Reader) -> dict[str, Any]:
    """How stored values become features."""
    return {"scale": reader.scale, "invert": reader.invert, "height": getattr(reader, "height", 0)}


class _Said(nn.Module):
    """What a task says of samples."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        self.ndim, self.input_size = task.facts.ndim, task.facts.channels
        self.model, self.temperature = task.model, task.temperature


class _Labelled(_Said):
    """The probabilities of every point's labels, (N, D1, ..., Dn, classes)."""

    def forward(self, x: Tensor, sizes: Tensor) -> Tensor:
        scores: Tensor = self.model(x, sizes)
        return (scores / self.temperature).softmax(-1)


class _Named(_Said):
    """The probabilities of every sample's classes, (N, classes)."""

    def __init__(self, task: Any) -> None:
        super().__init__(task)
        self.class_scores = task.class_scores

    def forward(self, x: Tensor, sizes: Tensor) -> Tensor:
        scores: Tensor = self.class_scores(self.model(x, sizes), sizes)
        return (scores / self.temperature).softmax(-1)


class _Read(_Said):
    """The log-probabilities of every frame's labels, (N, T, 1 + characters), and how many frames each sample has, (N,);
    without a temperature, which would change what a beam search finds."""

    def forward(self, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        scores: Tensor = self.model(x, sizes)
        frames: Tensor = self.model.output_sizes(sizes)
        return scores.log_softmax(-1), frames[:, 0]
