"""The demo end to end, in seconds: its table, its files, its report, on its own digits and on idx files."""

from __future__ import annotations

import gzip
import re
import struct
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from ndrnn.app.demo.tour import main
from ndrnn.app.report import Report
from ndrnn.data import digits
from ndrnn.saving import models as checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:backend", "ignore:.*LeafSpec")


class Page(HTMLParser):
    """What a page shows: its headings, pictures and anything that it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings, self.pictures, self.loads, self._tag = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._tag = tag
        values = dict(attributes)
        if tag == "img":
            self.pictures.append(values["src"])
        for name in ("src", "href"):
            if name in values and not values[name].startswith("data:"):
                self.loads.append(values[name])

    def handle_data(self, data):
        if self._tag in ("h1", "h2") and data.strip():
            self.headings.append(data)


def test_the_demo_learns_and_leaves_a_model_and_a_report(tmp_path, capsys):
    assert main(["--no-photographs", "--epochs", "6", "--hidden", "8", "--out", str(tmp_path / "demo")]) == 0
    out = capsys.readouterr().out
    rows = dict(re.findall(r"^  (\S[\w ]+?)\s{2,}(\S.*)$", out, re.MULTILINE))
    assert rows.keys() == {
        "image error",
        "pixel error",
        "weights",
        "seconds of training",
        "points learned a second",
    }
    assert 0 <= float(rows["image error"].split()[0]) < 60  # chance is 90
    assert " %  " in out  # progress
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "model.safetensors",
        "report.html",
    ]
    page = Page((tmp_path / "demo" / "report.html").read_text())
    assert page.headings == [
        "Every pixel knows its digit",
        "Results",
        "What it says of each pixel",
        "What each direction sees",
        "How it learned",
        "Its mistakes",
    ]
    assert len(page.pictures) == 4
    assert not page.loads
    # the saved model is the one of the table
    task = checkpoint.load(tmp_path / "demo" / "model.safetensors")
    split = digits.load()
    (batch, *others) = digits.DigitBatches(split, 32).test_dataloader()
    named = [p.label for part in (batch, *others) for p in task.predict_step(part)]
    error = (torch.tensor(named) != split.test.labels).double().mean()
    assert f"{100 * error:.2f} %" == rows["image error"]
    assert f"{sum(weight.numel() for weight in task.model.parameters()):,}" == rows["weights"]


def idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_the_demo_reads_idx_files(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        labels = np.arange(count) % 10
        images = np.zeros((count, 12, 10), np.uint8)
        images[np.arange(count), labels] = rng.integers(100, 256, (count, 10))
        idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels)
    arguments = [
        "--data",
        str(tmp_path),
        "--minutes",
        "0.02",
        "--hidden",
        "2",
        "--no-photographs",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    assert "60 to learn from, 20 to judge by, 12 x 10 pixels" in capsys.readouterr().out
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--minutes", "-1"], "minutes must be above 0"),
        (["--hidden", "0"], "hidden and subsample must be at least 1"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_the_held_out_third_is_a_third_of_each_digit():
    split = digits.load()
    assert len(split.train) + len(split.test) == 1797
    for label in range(10):
        count = int((split.test.labels == label).sum())
        total = count + int((split.train.labels == label).sum())
        assert count == total // 3
    train = {tuple(image.flatten().tolist()) for image in split.train.images}
    assert not train & {tuple(image.flatten().tolist()) for image in split.test.images}


def test_a_report_escapes_what_it_is_given(tmp_path):
    report = Report("a < b", "<script>alert(1)</script>")
    report.section("x & y").text("<img src=x>").note("<b>").table([("a", "<i>")], head=("k", "v")).numbers(
        {"<n>": "1"}
    )
    report.write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    for bad in ("<script>", "<img", "<b>", "<i>", "<n>"):
        assert bad not in text
    assert "a &lt; b" in text
