"""A person at the page, in a real browser: Debian's chromium and its driver, where they are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from .browser import Browser, browser
from .conftest import smooth

DRIVER = shutil.which("chromedriver")
BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CANVAS = ".picture canvas"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DRIVER is None or BINARY is None, reason="needs chromium and chromedriver"),
]


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory) -> Iterator[Browser]:
    """The page with a model of every task, just opened."""
    folder = tmp_path_factory.mktemp("browser")
    words = [
        sys.executable,
        "-m",
        "ndrnn",
        "serve",
        *map(str, runs.values()),
        "--port",
        "0",
        "--max-megabytes",
        "1",
    ]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = re.search(r"http://\S+", server.stdout.readline())
            assert address
            with browser(DRIVER or "", BINARY or "", folder / "profile") as session:
                session.open(address[0])
                session.wait("document.querySelector('.empty')")
                yield session
                assert session.complaints() == []
        finally:
            server.terminate()


@pytest.fixture
def use(page: Browser, tmp_path):
    """Chooses a model, and drops a picture if there is one."""

    def use(model: str, array: np.ndarray | None = None, name: str = "a.png") -> None:
        page.run(
            "const s = document.querySelector('#model'); s.value = arguments[0]; s.dispatchEvent(new Event('change'))",
            model,
        )
        if array is not None:
            Image.fromarray(array).save(tmp_path / name)
            page.run("document.querySelector('#name').textContent = ''")
            page.keys("#file", str(tmp_path / name))
            page.wait("document.querySelector('#name').textContent")

    return use


def pixels(page: Browser) -> list[int]:
    """What the first canvas shows."""
    script = (
        "const c = document.querySelector(arguments[0]); "
        "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    return list(page.run(script, CANVAS))


def idle(page: Browser) -> None:
    page.wait("document.querySelector('#status').hidden", 120)


def test_labels_under_the_mouse_and_under_the_arrow_keys(page, use):
    use("streets", smooth(30, 40, 3))
    page.wait("document.querySelectorAll('.bars button').length === 3")
    # a class that is called like a tag is a text
    assert "<b>tree</b>" in page.text(".bars")
    page.mouse(CANVAS, (0.51, 0.52), (0.56, 0.52))
    page.wait(
        "/(sky|road|tree).*\\n.*% sure, row 15, column 22/.test(document.querySelector('.read').innerText)"
    )
    page.keys(CANVAS, "\ue014\ue015")  # right, down
    page.wait("/row 16, column/.test(document.querySelector('.read').innerText)")
    before = pixels(page)
    page.click(".choice button:nth-child(2)")
    assert pixels(page) != before


def test_a_text_with_its_columns(page, use):
    use("letters", np.repeat(np.random.default_rng(3).integers(0, 256, (8, 20), np.uint8), 10, axis=1))
    page.wait("document.querySelectorAll('.line span').length > 5")
    page.mouse(CANVAS, (0.4, 0.4), (0.5, 0.4))
    page.wait("/% sure, columns/.test(document.querySelector('.read').innerText)")
    assert page.run("return document.querySelectorAll('.line .here').length") == 1


def test_classes(page, use):
    use("signs", smooth(20, 20))
    page.wait("document.querySelectorAll('.bars li').length === 2")
    assert re.match(r"(stop|go)\n\d", page.text(".figure"))


def test_what_directions_remember(page, use):
    use("streets", smooth(30, 40, 3))
    page.click("#tab-memory")
    page.wait("document.querySelectorAll('.map canvas').length === 4")
    assert "from the bottom right" in page.text("#stage")
    page.mouse(CANVAS, (0.4, 0.5), (0.5, 0.5))
    page.wait("/of .*,.*,.*,/.test(document.querySelector('.read').innerText)")


def test_bits_and_a_hole_that_is_painted_and_filled(page, use):
    use("photographs-grey", smooth(64, 64))
    page.click("#tab-surprise")
    page.wait("/bits a pixel/.test(document.querySelector('.figure')?.innerText)")
    page.click("#tab-fill")
    page.run(
        "const s = document.querySelector('#panel select'); s.value = 10; s.dispatchEvent(new Event('change'))"
    )
    assert page.run("return document.querySelector('button.main').disabled")
    whole = pixels(page)
    page.mouse(CANVAS, (0.45, 0.5), (0.5, 0.55), press=True)
    assert pixels(page) != whole
    page.click("button.main")
    page.wait("/after 10 sweeps/.test(document.querySelector('#panel').innerText)", 120)
    idle(page)
    assert page.run("return !document.querySelector('#panel .row button:nth-child(3)').disabled")
    # what was not painted is as it was
    page.mouse(CANVAS, (0.02, 0.02))
    page.run("document.querySelector(arguments[0]).dispatchEvent(new Event('blur'))", CANVAS)
    filled = pixels(page)
    changed = np.flatnonzero((np.array(filled) != np.array(whole)).reshape(-1, 4).any(1))
    side = int(np.sqrt(len(whole) // 4))
    rows, columns = changed // side, changed % side
    assert len(changed) > 20
    assert 0.3 * side < min(rows.min(), columns.min())
    assert max(rows.max(), columns.max()) < 0.75 * side


def test_a_hole_by_the_keyboard_alone_and_work_that_is_cancelled(page, use):
    use("photographs-grey", smooth(64, 64))
    page.click("#tab-fill")
    page.run(
        "const s = document.querySelector('#panel select'); s.value = 1000; s.dispatchEvent(new Event('change'))"
    )
    page.keys(CANVAS, "\ue014 \ue015 ")
    page.wait("!document.querySelector('button.main').disabled")
    page.keys("button.main", "\ue007")
    page.wait("/sweep .* of 1000/.test(document.querySelector('#doing').innerText)", 120)
    page.click("#cancel")
    idle(page)
    # the queue goes on with the next
    page.click("#tab-draw")
    page.wait("!document.querySelector('#panel .row button:nth-child(2)').disabled", 120)


def test_errors_are_shown_until_the_next_picture(page, use, tmp_path):
    use("signs", smooth(20, 20))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.keys("#file", str(tmp_path / "broken.png"))
    page.wait("/broken.png: not an image/.test(document.querySelector('#error').innerText)")
    assert not page.run("return document.querySelector('#error').hidden")
    (tmp_path / "large.png").write_bytes(bytes(2 << 20))
    page.keys("#file", str(tmp_path / "large.png"))
    page.wait("/large.png: is larger than 1 MB/.test(document.querySelector('#error').innerText)")
    use("signs", smooth(20, 20))
    page.wait("document.querySelector('#error').hidden")
    page.call("POST", "/se/log", type="browser")  # the console tells of the answer 422, as it should
