"""Small models and pictures, and a page that shows them."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ndrnn.app.options import Train
from ndrnn.app.recipe import parse
from ndrnn.saving import models
from ndrnn.tasks import Facts, build

ADDRESS = "http://127.0.0.1:8765"
MARK = {"x-ndrnn": "test"}

READER = ("--network.hidden", "4", "5", "--network.blocks", "2x1", "2x2", "--network.subsample")
"""The network of small readers: a frame is two columns."""


def make_run(folder: Path, facts: Facts, *options: str) -> Path:
    """A run's folder whose weights are as they were drawn."""
    folder.mkdir()
    recipe, _ = parse(("--data.path", "unused", *options), Train, "ndrnn train")
    recipe.save(folder)
    task = build(recipe.config, facts)
    with torch.no_grad():
        # without what all points have in common, so that they say different things
        task.model.output.weight.normal_(0, 30, generator=torch.Generator().manual_seed(0))
        scores = task.model(torch.rand(1, 8, 100, facts.channels, generator=torch.Generator().manual_seed(1)))
        mean = scores.flatten(0, -2).mean(0)
        task.model.output.bias.sub_(
            mean.repeat(len(task.model.output.bias) // len(mean))
        )  # a block has several
    models.save(task, folder / "best.safetensors")
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of every task, by what it is for."""
    folder = tmp_path_factory.mktemp("runs")
    label = (
        "--task",
        "label",
        "--data.format",
        "masks",
        "--network.hidden",
        "3",
        "4",
        "--network.blocks",
        "2x2",
        "1x1",
    )
    classify = ("--task", "classify", "--data.format", "classes", "--network.hidden", "3")
    read = ("--task", "transcribe", "--data.format", "lines", "--data.height", "8", "--data.invert")
    read += READER
    return {
        "label": make_run(folder / "streets", Facts(2, 3, ("sky", "road", "<b>tree</b>")), *label),
        "classify": make_run(folder / "signs", Facts(2, 1, ("stop", "go")), *classify),
        "transcribe": make_run(folder / "letters", Facts(2, 1, alphabet="ab c"), *read),
        "density": Path("photographs-grey"),
    }


@pytest.fixture(scope="session")
def served(runs: dict[str, Path]) -> list[Any]:
    served = pytest.importorskip("ndrnn.app.page.served", exc_type=ImportError)
    return served.open_models(list(runs.values()), "cpu")


@pytest.fixture
def client(served: list[Any], tmp_path: Path) -> Iterator[Any]:
    """Talks to the page as the page does."""
    pytest.importorskip("starlette")
    pytest.importorskip("httpx2")
    from starlette.testclient import TestClient

    from ndrnn.app.page.guard import names_of
    from ndrnn.app.page.pictures import Pictures
    from ndrnn.app.page.site import Site
    from ndrnn.app.page.work import Worker

    folder = tmp_path / "kept"
    folder.mkdir()
    worker = Worker()
    site = Site(served, Pictures(folder, 100_000, 50_000), worker)
    with TestClient(site.app(names_of("127.0.0.1"), True), base_url=ADDRESS, headers=MARK) as client:
        client.site = site
        yield client
    worker.close()


def png(array: np.ndarray) -> bytes:
    to = io.BytesIO()
    Image.fromarray(array).save(to, "PNG")
    return to.getvalue()


def smooth(height: int, width: int, channels: int = 1) -> np.ndarray:
    """A picture with something to see, (H, W) or (H, W, C) uint8."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).normal(0, 4, (height, width))
    planes = [
        120 + 60 * np.sin(rows / (5 + c)) + 40 * np.cos(columns / (7 - c)) + noise for c in range(channels)
    ]
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8).squeeze()


@pytest.fixture
def upload(client: Any) -> Callable[..., str]:
    """Drops a picture on the page; gives its key."""

    def drop(array: np.ndarray, name: str = "a.png") -> str:
        answer = client.post("/api/pictures", params={"name": name}, content=png(array))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return drop


@pytest.fixture
def ask(client: Any) -> Callable[..., tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Asks for a view and waits for it: what it tells, and its planes by name."""

    def ask(model: int, view: str, picture: str | None = None, *, state: str = "done", **options: Any) -> Any:
        wanted = {"model": model, "view": view, "picture": picture, "options": options}
        answer = client.post("/api/jobs", json=wanted)
        assert answer.status_code == 201, answer.text
        job = wait(client, answer.json()["id"])
        assert job["state"] == state, job
        return (
            (job["told"], {name: plane(client, job["id"], name) for name in job["planes"]})
            if state == "done"
            else job
        )

    return ask


def wait(client: Any, key: str, seconds: float = 60) -> dict[str, Any]:
    """A job when it is over."""
    end = time.monotonic() + seconds
    while True:
        job: dict[str, Any] = client.get(f"/api/jobs/{key}").json()
        if job["state"] not in ("waiting", "running"):
            return job
        assert time.monotonic() < end, job
        time.sleep(0.01)


def plane(client: Any, key: str, name: str) -> np.ndarray:
    answer = client.get(f"/api/jobs/{key}/{name}")
    assert answer.status_code == 200, answer.text
    kind = np.dtype(answer.headers["x-type"]).newbyteorder("<")
    return np.frombuffer(answer.content, kind).reshape(
        [int(size) for size in answer.headers["x-shape"].split(",")]
    )
