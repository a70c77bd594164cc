"""What may be dropped on the page, and what is told of the rest."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("httpx2")

from ndrnn.app.page import pictures

from .conftest import png, smooth


def drop(client, data, name="a.png"):
    return client.post("/api/pictures", params={"name": name}, content=data)


def shown(client, key):
    answer = client.get(f"/api/pictures/{key}")
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as image:
        return np.asarray(image)


def stored(array, kind, **options):
    to = io.BytesIO()
    Image.fromarray(array).save(to, kind, **options)
    return to.getvalue()


def test_it_is_shown_as_it_is(client):
    for array in (smooth(9, 7), smooth(9, 7, 3)):
        found = drop(client, png(array)).json()
        assert (found["name"], found["height"], found["width"]) == ("a.png", 9, 7)
        assert np.array_equal(shown(client, found["id"]), array)


def test_what_a_browser_cannot_show_is_shown(client):
    grey = smooth(6, 5)
    deep = grey.astype(np.uint16) * 100  # a microscope's, far from the top of its range
    found = drop(client, stored(deep, "TIFF"), "a.tif").json()
    seen = shown(client, found["id"]).astype(float)
    assert (seen.min(), seen.max()) == (0, 255)
    expected = 255.0 * (grey - grey.min()) / (grey.max() - grey.min())
    assert np.abs(seen - expected).max() <= 0.5 + 1e-4
    # upright, as a photograph's EXIF data say
    exif = Image.Exif()
    exif[0x0112] = 6
    found = drop(client, stored(grey, "PNG", exif=exif)).json()
    assert (found["height"], found["width"]) == (5, 6)
    assert np.array_equal(shown(client, found["id"]), np.rot90(grey, -1))
    # on white where it is transparent
    clear = np.zeros((4, 4, 4), np.uint8)
    assert (shown(client, drop(client, png(clear)).json()["id"]) == 255).all()


PAGE_FILE = b'<PcGts><Page imageFilename="p.png"><TextLine id="a"/><TextLine id="b"/></Page></PcGts>'


def zipped():
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr("a.png", png(smooth(4, 4)))
    return to.getvalue()


def bomb():
    """A PNG whose header announces a hundred million pixels."""
    data = bytearray(png(smooth(4, 4)))
    data[16:24] = (10_000).to_bytes(4, "big") * 2
    return bytes(data)


@pytest.mark.parametrize(
    ("make", "name", "told"),
    [
        (lambda: b"", "a.png", "a.png: is empty"),
        (lambda: b"not a picture", "a.png", "a.png: not an image, or of a kind that is not read (formats: PNG,"),
        (lambda: png(smooth(40, 40))[:90], "b.png", "b.png: "),
        (zipped, "a.zip", "a: is a zip archive; drop one picture of it"),
        (zipped, "a.png", "a.png: is a zip archive"),
        (lambda: PAGE_FILE, "a.xml", "a.xml: is a PAGE file of 2 lines, without the image; ndrnn predict reads whole pages"),
        (lambda: b"\xef\xbb\xbf" + PAGE_FILE.replace(b"PcGts", b"alto"), "a.xml", "a.xml: is an ALTO file of 2 lines"),
        (lambda: PAGE_FILE.decode().replace("PcGts", "alto").encode("utf-16"), "a.png", "a.png: is an ALTO file of 2 lines"),
        (lambda: b" <svg/>", "a.svg", "a.svg: is XML, and the page shows pictures"),
        (lambda: b"<PcGts", "a.xml", "a.xml: is XML, and the page shows pictures"),
        (lambda: b"\x5c\x01", "a.nii.gz", "a.nii.gz: is a volume, and the page shows pictures"),
        (lambda: png(np.zeros((300, 300), np.uint8)), "c.png", "c.png: has 300 x 300 pixels, 0.1 million, and at most 0.05 million are taken (--max-megapixels"),
        (bomb, "d.png", "d.png: "),
        (lambda: stored(smooth(4, 4), "GIF", save_all=True, append_images=[Image.new("L", (4, 4))]), "e.gif", "e.gif: holds 2 pictures"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_and_leaves_nothing(client, make, name, told):
    answer = drop(client, make(), name)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(told)
    assert str(client.site.pictures.folder) not in answer.text
    assert not list(client.site.pictures.folder.iterdir())


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_that_is_too_large_is_refused_before_it_is_taken(client, announced):
    data = bytes(200_000)

    def pieces():
        for begin in range(0, len(data), 10_000):
            yield data[begin : begin + 10_000]

    answer = drop(client, data if announced else pieces(), "large.png")
    assert answer.status_code == 413
    assert answer.json()["error"] == "large.png: is larger than 0.0953674 MB (--max-megabytes sets the limit)"


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\Users\\me\\a.png", "a.png"),
        ("..", "picture"),
        ("", "picture"),
        (".hidden.png", "hidden.png"),
        ("a\x00\n.png", "a_x00_x0a.png"),
        ("a" * 500 + ".png", "a" * 80 + ".png"),
        ("<img src=x>.png", "<img src=x>.png"),
        ("naïve.png", "naïve.png"),
        ("a.zip", "a"),
    ],
)
def test_files_stay_in_the_folder_whatever_they_are_called(client, tmp_path, name, called):
    answer = drop(client, png(smooth(4, 4)), name)
    assert answer.status_code == 201, answer.text
    assert answer.json()["name"] == called
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert file == client.site.pictures.folder / answer.json()["id"] / called


def test_the_oldest_makes_way(client):
    keys = [drop(client, png(smooth(4, 4))).json()["id"] for _ in range(pictures.KEPT + 2)]
    assert {path.name for path in client.site.pictures.folder.iterdir()} == set(keys[2:])
    assert client.get(f"/api/pictures/{keys[0]}").status_code == 404
    assert client.get(f"/api/pictures/{keys[-1]}").status_code == 200
