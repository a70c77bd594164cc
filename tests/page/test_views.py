"""What the page shows is what the models say."""

from __future__ import annotations

import io
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("httpx2")

import ndrnn
from ndrnn.app.options import Train
from ndrnn.app.page import density_views, views
from ndrnn.app.page.served import open_models
from ndrnn.app.recipe import parse
from ndrnn.data.batches import DensityBatch, TranscribeBatch
from ndrnn.density.lattices.images import dequantize
from ndrnn.saving import models
from ndrnn.tasks import Facts, build

from .conftest import READER, make_run, plane, smooth, wait

LABEL, CLASSIFY, TRANSCRIBE, DENSITY = range(4)


def features(array):
    x = torch.tensor(array / np.float32(255))
    return x if x.dim() == 3 else x.unsqueeze(-1)


def test_the_models_are_described(client):
    told = client.get("/api/models").json()
    assert [model["name"] for model in told["models"]] == ["streets", "signs", "letters", "photographs-grey"]
    label, _, _, density = told["models"]
    assert label["classes"] == ["sky", "road", "<b>tree</b>"]
    assert len(label["colours"]) == 3
    assert [layer["units"] for layer in label["layers"]] == [3, 4]
    assert label["layers"][0]["directions"] == [[1, 1], [1, -1], [-1, 1], [-1, -1]]
    assert density["views"] == ["surprise", "fill", "draw", "memory"]
    assert "photographs" in density["about"]
    assert told["limits"]["bytes"] == 100_000


@pytest.mark.parametrize("tile", [512, 20])
def test_labels_and_how_sure_they_are(client, upload, ask, runs, monkeypatch, tile):
    monkeypatch.setattr(views, "TILE", tile)
    image = smooth(30, 34, 3)
    told, planes = ask(LABEL, "labels", upload(image))
    task = models.load(runs["label"] / "best.safetensors")
    with torch.no_grad():
        expected = task.model(features(image).unsqueeze(0))[0].softmax(-1)
    # at tiles of 20 x 20 with 64 around, every tile sees all of the picture
    assert np.array_equal(planes["labels"], expected.argmax(-1))
    assert np.abs(planes["confidence"] / 255 - expected.max(-1).values.numpy()).max() < 0.003
    assert told["confidence"] == pytest.approx(float(expected.max(-1).values.mean()), abs=1e-5)
    assert told["shares"] == pytest.approx(
        [float((expected.argmax(-1) == k).float().mean()) for k in range(3)]
    )


def test_classes(client, upload, ask, runs):
    image = smooth(12, 10)
    told, _ = ask(CLASSIFY, "classes", upload(image))
    task = models.load(runs["classify"] / "best.safetensors")
    with torch.no_grad():
        points = task.model(features(image).unsqueeze(0))[0].softmax(-1)
    # of all points together, without those that are taken for background
    expected = points[..., :2].sum((0, 1)) / points[..., :2].sum()
    assert told["probabilities"] == pytest.approx(expected.tolist(), abs=1e-6)
    assert told["label"] == int(expected.argmax())


def test_what_looks_like_a_page_is_told(upload, ask, monkeypatch):
    monkeypatch.setattr(views, "PAGE", 30)
    notes = [
        ask(TRANSCRIBE, "text", upload(smooth(*size)))[0]["note"] for size in ((36, 30), (30, 80), (12, 10))
    ]
    assert notes == [views.WHOLE_PAGE, "", ""]


def test_a_text_and_where_it_stands(client, upload, ask, runs):
    # twice as high as the lines of the training: columns are those of the picture, not of what the network sees
    stripes = np.random.default_rng(3).integers(0, 256, (16, 20), np.uint8)
    image = np.repeat(stripes, 10, axis=1)
    told, _ = ask(TRANSCRIBE, "text", upload(image))
    task = models.load(runs["transcribe"] / "best.safetensors")
    from ndrnn.data.formats.images import resized

    x = 1 - features(resized(image[..., None], 8, 100)[..., 0])
    (read,) = task.predict_step(TranscribeBatch(x.unsqueeze(0), ("",)))
    assert told["text"] == read.text == "".join(found["character"] for found in told["characters"])
    assert len(read.text) > 5
    assert told["confidence"] == pytest.approx(read.confidence, rel=1e-5)
    # a frame is two points of the network's picture, so four of the person's
    ends = [(found["from"], found["to"]) for found in told["characters"]]
    assert all(end % 4 == 0 for pair in ends for end in pair)
    assert all(begin < end for begin, end in ends)
    assert all(before[1] <= after[0] for before, after in pairwise(ends))
    assert ends[-1][1] <= 200
    with torch.no_grad():
        frames = task.model(x.unsqueeze(0))[0].softmax(-1)
    for found in told["characters"]:
        label = task.facts.alphabet.index(found["character"]) + 1
        own = frames[int(found["from"] / 4) : int(found["to"] / 4), label]
        assert found["confidence"] == pytest.approx(float(own.max()), abs=1e-5)


@pytest.mark.parametrize("by", ["mean", "component"])
def test_what_each_direction_remembers(client, upload, ask, runs, by):
    image = smooth(14, 18, 3)
    told, planes = ask(LABEL, "memory", upload(image), layer="layers.1", by=by)
    task = models.load(runs["label"] / "best.safetensors")
    with torch.no_grad():
        hidden = task.model.hidden(features(image).unsqueeze(0))[1][0].unflatten(-1, (4, 4)).numpy()
    assert planes["maps"].shape == (4, 7, 9)
    for direction in range(4):
        own = hidden[:, :, direction].reshape(-1, 4)
        if by == "mean":
            expected = np.abs(own).mean(-1)
        else:
            _, spread, axes = np.linalg.svd(own - own.mean(0), full_matrices=False)
            expected = (own - own.mean(0)) @ axes[0]
            expected *= np.sign(axes[0][np.abs(axes[0]).argmax()])
            assert told["shares"][direction] == pytest.approx(spread[0] ** 2 / (spread**2).sum(), rel=1e-4)
        assert np.abs(planes["maps"][direction].reshape(-1) - expected).max() < 1e-5
    assert told["maps"] == [0, 0, 14, 18]
    assert told["seen"] == [0, 0, 14, 18]


def test_of_a_large_picture_the_middle_is_remembered(client, upload, ask, monkeypatch):
    monkeypatch.setattr(views, "REMEMBERED", 64 * 20 * 20)
    told, planes = ask(DENSITY, "memory", upload(smooth(40, 50)))
    assert told["seen"] == [10, 15, 20, 20]
    # two rows above and two columns at each side lack their neighbourhood
    assert told["maps"] == [12, 17, 18, 16]
    assert planes["maps"].shape == (1, 18, 16)


@pytest.mark.parametrize("tile", [512, 24])
def test_bits_where_they_are_spent(client, upload, ask, monkeypatch, tile):
    monkeypatch.setattr(density_views, "TILE", tile)
    image = smooth(40, 50)
    told, planes = ask(DENSITY, "surprise", upload(image))
    ride = ndrnn.load("photographs-grey")
    known = dequantize(torch.tensor(image)[..., None], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = 8 - ride.log_prob(known.unsqueeze(0))[0].numpy() / np.log(2)
    bits = planes["bits"]
    assert bits.shape == (40, 50)
    assert np.array_equal(
        np.isnan(bits), np.pad(np.zeros((38, 46), bool), ((2, 0), (2, 2)), constant_values=True)
    )
    assert np.abs(bits[2:, 2:-2] - expected).max() < 1e-3
    assert told["bits_per_pixel"] == pytest.approx(expected.mean(), rel=1e-4)
    assert told["bits"] == pytest.approx(expected.sum(), rel=1e-4)
    # what the levels themselves cost, without noise, is nearly as much
    discrete = ride.log_prob_discrete(torch.tensor(image)[None, ..., None])
    assert told["bits_per_pixel"] == pytest.approx(-float(discrete.mean()) / np.log(2), abs=0.1)


def runs_of(mask):
    flat = np.flatnonzero(mask)
    breaks = np.flatnonzero(np.diff(flat) > 1)
    begins, ends = np.r_[flat[0], flat[breaks + 1]], np.r_[flat[breaks], flat[-1]]
    return np.stack([begins, ends - begins + 1], 1).ravel().tolist()


def test_a_hole_is_filled_and_nothing_else(client, upload, ask, monkeypatch):
    monkeypatch.setattr(density_views, "AROUND", 8)
    image, mask = smooth(40, 50), np.zeros((40, 50), bool)
    mask[20:24, 30:35] = True
    key = upload(image)
    told, planes = ask(DENSITY, "fill", key, hole=runs_of(mask), sweeps=3, seed=5)
    assert told == {"corner": [12, 22], "sweeps": 3, "pixels": 20}
    patch, hole = planes["patch"][..., 0], planes["hole"]
    assert np.array_equal(hole, mask[12:32, 22:43])
    assert np.array_equal(patch[hole == 0], image[12:32, 22:43][hole == 0])
    assert not np.array_equal(patch, image[12:32, 22:43])
    again = ask(DENSITY, "fill", key, hole=runs_of(mask), sweeps=3, seed=5)[1]["patch"]
    other = ask(DENSITY, "fill", key, hole=runs_of(mask), sweeps=3, seed=6)[1]["patch"]
    assert np.array_equal(again, planes["patch"])
    assert not np.array_equal(other, planes["patch"])


def test_a_hole_in_the_corner_of_a_colour_picture_is_filled_in_grey(client, upload, ask):
    image, mask = smooth(24, 24, 3), np.zeros((24, 24), bool)
    mask[:3, :3] = True
    _, planes = ask(DENSITY, "fill", upload(image), hole=runs_of(mask), sweeps=1)
    luma = np.rint(image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))
    assert planes["patch"].shape == (24, 24, 1)
    assert np.abs(planes["patch"][..., 0].astype(float) - luma)[~mask].max() <= 1


def test_a_filling_is_shown_as_it_goes_on_and_ends_when_told(client, upload):
    image, mask = smooth(48, 48), np.zeros((48, 48), bool)
    mask[20:28, 20:28] = True
    wanted = {"model": DENSITY, "view": "fill", "picture": upload(image)}
    options = {"hole": runs_of(mask), "sweeps": 1000}
    key = client.post("/api/jobs", json={**wanted, "options": options}).json()["id"]
    seen = set()
    end = time.monotonic() + 60
    while len(seen) < 3:
        job = client.get(f"/api/jobs/{key}").json()
        assert job["state"] in ("waiting", "running"), job
        if job["version"]:
            seen.add(job["version"])
            assert plane(client, key, "patch").shape == (48, 48, 1)
        assert time.monotonic() < end
    assert 0 < job["share"] < 1
    assert "of 1000" in job["text"]
    client.delete(f"/api/jobs/{key}")
    assert wait(client, key)["state"] == "cancelled"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "hole must be a list"),
        ({"hole": []}, "there is no hole: paint over what is to be filled"),
        ({"hole": [0]}, "hole must be a list of whole numbers"),
        ({"hole": [0, 1.5]}, "hole must be a list of whole numbers"),
        ({"hole": [0, True]}, "hole must be a list of whole numbers"),
        ({"hole": [-1, 4]}, "hole must lie within 4 x 300 pixels, got 4 from number -1 on"),
        ({"hole": [1199, 2]}, "hole must lie within 4 x 300 pixels"),
        ({"hole": [0, 10**30]}, "hole must lie within 4 x 300 pixels"),
        ({"hole": [0, 200]}, "a hole may be 160 x 160 pixels large, all its parts together, got 1 x 200"),
        ({"hole": [650, 1], "sweeps": 0}, "sweeps must be a whole number from 1 to 1000, got 0"),
        ({"hole": [650, 1], "sweeps": 10**6}, "sweeps must be a whole number from 1 to 1000"),
        ({"hole": [650, 1], "seed": "x"}, "seed must be a whole number"),
    ],
)
def test_what_is_no_hole_is_told(client, upload, ask, options, told):
    assert ask(DENSITY, "fill", upload(smooth(4, 300)), state="failed", **options)["error"].startswith(told)


def test_a_picture_is_drawn_by_its_seed(ask):
    told, planes = ask(DENSITY, "draw", height=12, width=10, seed=3)
    with torch.no_grad():
        drawn = ndrnn.load("photographs-grey").sample(1, 12, 10, generator=torch.Generator().manual_seed(3))
    assert told == {"seed": 3}
    assert np.array_equal(planes["picture"], np.floor(drawn[0].double().numpy() * 256).clip(0, 255))
    assert (
        "height must be a whole number from 8 to 512"
        in ask(DENSITY, "draw", state="failed", height=513)["error"]
    )


def test_what_does_not_fit_a_model_is_told(client, upload, ask):
    failed = ask(DENSITY, "surprise", upload(smooth(3, 3)), state="failed")
    assert failed["error"].startswith("images must be at least 3 x 5 pixels")
    wrong = ask(LABEL, "memory", upload(smooth(9, 9)), state="failed", layer="layers.7")
    assert wrong["error"] == "layer must be one of layers.0, layers.1, got 'layers.7'"
    assert (
        "by must be mean or component"
        in ask(LABEL, "memory", upload(smooth(9, 9)), state="failed", by="x")["error"]
    )


@pytest.mark.parametrize(
    ("wanted", "status", "told"),
    [
        ({"model": 9, "view": "labels"}, 400, "model must be a number from 0 to 3, got 9"),
        ({"model": True, "view": "labels"}, 400, "model must be a number"),
        ({"model": -1, "view": "labels"}, 400, "model must be a number"),
        ({"view": "labels"}, 400, "model must be a number"),
        ({"model": 0, "view": "fill"}, 400, "view must be one of labels, memory for streets, got 'fill'"),
        ({"model": 0, "view": "labels"}, 404, "this picture is no longer here: drop it again"),
        ({"model": 0, "view": "labels", "picture": "../x"}, 404, "this picture is no longer here"),
        ({"model": 0, "view": "labels", "picture": [1]}, 404, "this picture is no longer here"),
        ({"model": 0, "view": ["labels"]}, 400, "view must be one of"),
        ({"model": 3, "view": "draw", "options": 3}, 400, "options must be an object"),
    ],
)
def test_what_cannot_be_asked_is_refused(client, wanted, status, told):
    answer = client.post("/api/jobs", json=wanted)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(told)


def test_what_is_no_request_is_refused(client):
    assert client.post("/api/jobs", content=b"{").json() == {"error": "the request is no JSON"}
    assert client.post("/api/jobs", content=b"[" * 100_000).json() == {"error": "the request is no JSON"}
    assert client.post("/api/jobs", content=b"[]").json() == {"error": "the request must be a JSON object"}
    large = client.post("/api/jobs", content=b" " * (2 << 20))
    assert large.status_code == 413
    assert client.get("/api/jobs/none").status_code == 404
    assert client.delete("/api/jobs/none").status_code == 404
    assert client.get("/api/pictures/none").status_code == 404
    assert client.get("/nothing").status_code == 404


@pytest.fixture
def of_one(client):
    """Lets the page show one more model; gives its number."""

    def of_one(path):
        client.site.models.extend(open_models([path], "cpu"))
        return len(client.site.models) - 1

    return of_one


def test_a_run_of_a_density_in_colour(upload, ask, of_one, tmp_path):
    recipe, _ = parse(
        ("--task", "density", "--data.format", "images", "--data.path", "x", "--hidden", "4"),
        Train,
        "ndrnn train",
    )
    image = smooth(40, 44, 3)
    task = build(recipe.config, Facts(2, 3))
    task.prepare([DensityBatch(features(image).unsqueeze(0))])
    models.save(task, tmp_path / "colours.safetensors")
    number = of_one(tmp_path / "colours.safetensors")
    key = upload(image)
    told, planes = ask(number, "surprise", key)
    (expected,) = models.load(tmp_path / "colours.safetensors").predict_step(
        DensityBatch(features(image).unsqueeze(0))
    )
    # the noise within the levels is another
    assert told["bits_per_pixel"] == pytest.approx(expected.bits_per_pixel, abs=0.05)
    assert np.nanmean(planes["bits"]) == pytest.approx(3 * expected.bits_per_pixel, abs=0.15)
    mask = np.zeros((40, 44), bool)
    mask[18:20, 20:23] = True
    _, planes = ask(number, "fill", key, hole=runs_of(mask), sweeps=1)
    assert np.array_equal(planes["patch"][~mask], image[~mask])
    assert ask(number, "draw", height=8, width=9)[1]["picture"].shape == (8, 9, 3)
    assert ask(number, "memory", key)[1]["maps"].shape[0] == 1


def test_a_deep_picture_is_filled_as_it_is_shown(client, upload, ask, of_one, tmp_path):
    """16 bits are stretched to be seen, and so is what is filled in."""
    recipe, _ = parse(
        ("--task", "density", "--data.format", "images", "--data.path", "x", "--hidden", "4"),
        Train,
        "ndrnn train",
    )
    deep = smooth(36, 36).astype(np.uint16) * 40
    task = build(recipe.config, Facts(2, 1, levels=65536))
    task.prepare([DensityBatch(torch.tensor(deep / np.float32(65535))[None, ..., None])])
    models.save(task, tmp_path / "deep.safetensors")
    mask = np.zeros((36, 36), bool)
    mask[10:12, 10:12] = True
    key = upload(deep)
    _, planes = ask(of_one(tmp_path / "deep.safetensors"), "fill", key, hole=runs_of(mask), sweeps=1)
    with Image.open(io.BytesIO(client.get(f"/api/pictures/{key}").content)) as shown:
        assert np.array_equal(planes["patch"][~mask][:, 0], np.asarray(shown)[~mask])


def test_a_run_that_learned_from_pages_reads_a_line(upload, ask, of_one, tmp_path, runs):
    facts = Facts(2, 1, alphabet="ab c")
    options = ("--data.height", "8", *READER)
    run = make_run(tmp_path / "pages", facts, "--task", "transcribe", "--data.format", "pages", *options)
    image = np.random.default_rng(0).integers(0, 256, (16, 200), np.uint8)
    told, _ = ask(of_one(run), "text", upload(image))
    assert told["text"]
    assert all(found["to"] <= 200 for found in told["characters"])


def test_a_line_that_was_read_wider_shows_where_it_stands_on_the_picture(upload, ask, of_one, tmp_path):
    options = ("--data.format", "lines", "--views", *READER)
    run = make_run(tmp_path / "lines", Facts(2, 1, alphabet="ab c"), "--task", "transcribe", *options)
    image = np.random.default_rng(0).integers(0, 256, (8, 100), np.uint8)
    told, _ = ask(of_one(run), "text", upload(image))
    task = models.load(run / "best.safetensors")
    (read,) = task.predict_step(TranscribeBatch(features(image).unsqueeze(0), ("",)))
    assert told["text"] == read.text
    assert read.view.width != 1
    ends = [(found["from"], found["to"]) for found in told["characters"]]
    wanted = [tuple(min(2 * frame / read.view.width, 100) for frame in pair) for pair in read.frames]
    assert len(wanted) > 5
    assert all(found == pytest.approx(own) for found, own in zip(ends, wanted, strict=True))


def test_numbers_that_are_none_are_told_of_the_picture(client, upload, ask, of_one, runs):
    number, key = of_one(runs["label"]), upload(smooth(9, 9, 3), "tree.png")
    with torch.no_grad():
        client.site.models[number].model.layers[0].weight_ih.fill_(torch.nan)
    for view in ("labels", "memory"):
        assert ask(number, view, key, state="failed")["error"].startswith("tree.png: ")
