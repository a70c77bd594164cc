"""Whole models: a training step of RIDE, sampling of images, and MNIST's pixels learned to an error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import ndrnn
from ndrnn.data.formats.idx import load
from ndrnn.density import RIDE
from ndrnn.density.use import captured
from ndrnn.density.use.sampling import sample

from .run import Run

SIDE = 256
HIDDEN = 64
# of Graves, Fernandez & Schmidhuber 2007: pixels of the test digits that get a wrong label
POINT_ERROR = 0.0042


def _ride(run: Run, dtype: torch.dtype) -> tuple[RIDE, Tensor]:
    torch.manual_seed(0)
    count, side, hidden = (2, 6, 4) if run.tiny else (64, 64, HIDDEN)
    images = torch.rand(count, side, side, device=run.device).cumsum(1).to(dtype) / 5
    components = {"num_components": 2, "num_features": 4, "num_scales": 2} if run.tiny else {}
    model = RIDE(hidden, cell="spatial", **components, device=run.device, dtype=dtype)
    return model.fit_whitening(images), images


def ride_step(run: Run) -> None:
    """A training step: forward, backward, Adam."""
    model, images = _ride(run, torch.float32)
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        (-model.log_prob(images).mean()).backward()
        optimizer.step()

    for backend in ("triton", "wavefront"):
        with ndrnn.backend(backend):
            run.add(images=list(images.shape), backend=backend, seconds=run.attempt(lambda: step))


@torch.no_grad()
def sampling(run: Run) -> None:
    """One image, and sixteen: steps replayed from a graph, and launched one operator at a time."""
    model, _ = _ride(run, torch.float32)
    side = 4 if run.tiny else SIDE
    for count in (1, 2 if run.tiny else 16):
        for graph in (True, False):
            os.environ[captured.SWITCH] = "1" if graph else "0"
            generator = torch.Generator().manual_seed(0)
            times = []
            for _ in range(1 if run.tiny else 3):
                started = time.perf_counter()
                drawn = sample(model, count, side, side, margin=0 if run.tiny else 8, generator=generator)
                finite = bool(drawn.isfinite().all())  # waits for the device
                times.append(time.perf_counter() - started)
                if run.left() < 2 * times[-1]:
                    break
            run.add(images=list(drawn.shape), graph=graph, seconds=times, finite=finite)


def _digits(run: Run) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    if run.tiny:
        generator = torch.Generator().manual_seed(0)
        images, labels = torch.rand(4, 2, 2, 1, generator=generator), torch.arange(4)
        return (images, labels), (images, labels)
    split = load(run.data / "mnist")
    return tuple(  # type: ignore[return-value]
        (part.images.to(run.device), part.labels.to(run.device)) for part in (split.train, split.test)
    )


class Labeller(nn.Module):
    """The network of recipes/mnist.toml: 25 units in each of four directions, and a label for every point."""

    def __init__(self) -> None:
        super().__init__()
        self.scan = ndrnn.MDLSTM(1, 25, 2)
        self.read = nn.Linear(self.scan.output_size, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.read(self.scan(images))
        return logits


@torch.no_grad()
def errors(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> dict[str, float]:
    """Shares of points and of images with a wrong label; those of an image have the mean of their log-probabilities."""
    points, whole = [], []
    for some, right in zip(images.split(500), labels.split(500), strict=True):
        logits = model(some).log_softmax(-1).flatten(1, -2)
        points.append((logits.argmax(-1) != right[:, None]).float().mean(1))
        whole.append((logits.mean(1).argmax(-1) != right).float())
    return {"point error": float(torch.cat(points).mean()), "sample error": float(torch.cat(whole).mean())}


def digits(run: Run) -> None:
    """MNIST, every pixel labelled: the error after each pass, and the time so far, until the published error."""
    (images, labels), test = _digits(run)
    torch.manual_seed(0)
    model = Labeller().to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = 4 if run.tiny else 32
    passes = 2 if run.tiny else 12
    steps = passes * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    spent, longest = 0.0, 0.0
    with ndrnn.backend("triton"):
        for number in range(passes):
            started = time.perf_counter()
            order = torch.randperm(len(images), device=run.device)
            for chosen in order[: len(order) // batch * batch].split(batch):
                optimizer.zero_grad()
                logits = model(images[chosen])
                wanted = labels[chosen][:, None, None].expand(logits.shape[:-1])
                loss = nn.functional.cross_entropy(logits.flatten(0, -2), wanted.flatten())
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            last = float(loss)  # waits for the device
            longest = max(longest, time.perf_counter() - started)
            spent += time.perf_counter() - started
            found = errors(model, *test)
            run.add(**{"pass": number + 1}, seconds=spent, loss=last, **found)
            if found["point error"] <= POINT_ERROR or run.left() < 1.3 * longest:
                break
