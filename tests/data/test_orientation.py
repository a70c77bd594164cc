"""Photographs that are stored turned, and files with several pictures."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from ndrnn.app.inputs import Loader, find
from ndrnn.data import BadFile
from ndrnn.data.batches import Facts
from ndrnn.data.formats import images
from ndrnn.data.readers.folders import Classes, Images
from ndrnn.data.readers.pages import Pages
from ndrnn.data.readers.pairs import Masks

# how a picture is stored for each value of EXIF's orientation, after the description of the tag: where the first row
# and the first column of what is stored lie in what is seen
STORED = {
    1: lambda seen: seen,  # top, left
    2: lambda seen: seen[:, ::-1],  # top, right
    3: lambda seen: seen[::-1, ::-1],  # bottom, right
    4: lambda seen: seen[::-1],  # bottom, left
    5: lambda seen: np.swapaxes(seen, 0, 1),  # left, top
    6: lambda seen: np.swapaxes(seen[:, ::-1], 0, 1),  # right, top
    7: lambda seen: np.swapaxes(seen[::-1, ::-1], 0, 1),  # right, bottom
    8: lambda seen: np.swapaxes(seen[::-1], 0, 1),  # left, bottom
}
SEEN = np.arange(6 * 10 * 3, dtype=np.uint8).reshape(6, 10, 3)


def turned(seen, orientation, kind="PNG"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](seen)))
    stored.save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_images_and_masks_are_upright(orientation, kind):
    assert np.array_equal(images.decode(turned(SEEN, orientation, kind)), SEEN)
    if kind != "WEBP":  # which has no grey
        labels = SEEN[..., 0]
        assert np.array_equal(images.decode_mask(turned(labels, orientation, kind)), labels)
        deep = labels.astype(np.uint16) * 300
        assert np.array_equal(images.decode(turned(deep, orientation, kind))[..., 0], deep)


@pytest.mark.parametrize("orientation", STORED)
def test_photographs_are_upright(orientation):
    seen = np.zeros((16, 32, 3), np.uint8)
    seen[:8, :16] = 255  # the upper left quarter is bright
    decoded = images.decode(turned(seen, orientation, "JPEG"))
    assert decoded.shape == seen.shape
    assert np.abs(decoded.astype(int) - seen).max() < 20


@pytest.mark.parametrize("orientation", STORED)
def test_every_reader_turns(orientation, tmp_path):
    labels = (SEEN[..., 0] % 3).astype(np.uint8)
    for name, data in (("images/a.png", turned(SEEN, orientation)), ("masks/a.png", turned(labels, 1))):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(data)
    raw = Masks(path=str(tmp_path)).open().read(0)
    assert np.array_equal(raw.values, SEEN)
    assert np.array_equal(raw.target, labels)
    assert np.array_equal(Images(path=str(tmp_path / "images")).open().read(0).values, SEEN)
    assert np.array_equal(Classes(path=str(tmp_path)).open().read(0).values, SEEN)
    (file,) = find([tmp_path / "images/a.png"])
    assert np.array_equal(Loader(None, Facts(2, 3)).read(file)[0], SEEN)


# a rectangle of the picture as it is seen, and the places (x, y) of its corners among the 6 x 10 or 10 x 6 pixels that
# are stored, worked out by hand
PIECE = SEEN[1:3, 4:9]
CORNERS = {
    1: ((4, 1), (8, 2)),
    2: ((1, 1), (5, 2)),
    3: ((1, 3), (5, 4)),
    4: ((4, 3), (8, 4)),
    5: ((1, 4), (2, 8)),
    6: ((1, 1), (2, 5)),
    7: ((3, 1), (4, 5)),
    8: ((3, 4), (4, 8)),
}


def described(folder, orientation, corners, size=None, kind="PNG", seen=SEEN):
    """A page with one line, whose outline is the rectangle between two corners."""
    (left, top), (right, bottom) = corners
    told = "" if size is None else f' imageWidth="{size[0]}" imageHeight="{size[1]}"'
    name = f"a.{kind.lower()}"
    (folder / name).write_bytes(turned(seen, orientation, kind))
    (folder / "a.xml").write_text(
        f'<PcGts><Page imageFilename="{name}"{told}><TextLine><Coords points="{left},{top} {right},{top} '
        f'{right},{bottom} {left},{bottom}"/><TextEquiv><Unicode>x</Unicode></TextEquiv></TextLine></Page></PcGts>'
    )
    return Pages(path=str(folder))


def the_line(reader, folder):
    """The line for training and, the same, for use."""
    values = reader.open().read(0).values
    for path in (folder, folder / "a.xml"):
        (file,) = find([path], reader)
        assert np.array_equal(Loader(reader, Facts(2, 3)).read(file)[0], values)
    return values


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("orientation", STORED)
def test_lines_are_places_in_the_stored_page(orientation, told, kind, tmp_path):
    size = None if not told else (6, 10) if orientation > 4 else (10, 6)
    reader = described(tmp_path, orientation, CORNERS[orientation], size, kind)
    assert np.array_equal(the_line(reader, tmp_path), PIECE)


@pytest.mark.parametrize("size", [(10, 6), (20, 12)])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_lines_are_places_in_the_turned_page_if_that_has_its_size(orientation, size, tmp_path):
    (left, top), (right, bottom) = CORNERS[1]
    scale = size[0] // 10
    corners = (left * scale, top * scale), (right * scale, bottom * scale)
    reader = described(tmp_path, orientation, corners, size)
    assert np.array_equal(the_line(reader, tmp_path), PIECE)


@pytest.mark.parametrize("orientation", STORED)
def test_lines_of_a_square_page_are_places_in_what_is_stored(orientation, tmp_path):
    square = np.pad(SEEN, ((0, 4), (0, 0), (0, 0)))
    # four more rows below: where the stored picture begins with the last row, they come first
    corners = tuple(
        (x + 4 * (orientation in (7, 8)), y + 4 * (orientation in (3, 4))) for x, y in CORNERS[orientation]
    )
    reader = described(tmp_path, orientation, corners, (10, 10), seen=square)
    assert np.array_equal(the_line(reader, tmp_path), PIECE)


def test_a_page_of_neither_shape_is_refused(tmp_path):
    reader = described(tmp_path, 6, CORNERS[6], (10, 8))
    with pytest.raises(BadFile, match="not of one shape"):
        reader.open().read(0)


def test_broken_exif_data_turns_nothing():
    data = bytearray(turned(SEEN, 3))
    place = data.index(b"eXIf") + 4
    data[place : place + 8] = b"nonsense"
    crc = zlib.crc32(data[place - 4 : data.index(b"IDAT") - 8])
    data[data.index(b"IDAT") - 8 : data.index(b"IDAT") - 4] = crc.to_bytes(4, "big")
    assert np.array_equal(images.decode(bytes(data)), SEEN[::-1, ::-1])


def several(kind, count=3, size=(4, 5)):
    array = np.random.default_rng(0).integers(0, 256, (count, *size), np.uint8)
    first, *others = map(Image.fromarray, array)
    buffer = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    first.save(buffer, kind, save_all=True, append_images=others, **options)
    return array, buffer.getvalue()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_several_pictures_are_named_with_their_count(kind):
    _, data = several(kind)
    for decode in (images.decode, images.decode_mask):
        with pytest.raises(
            BadFile, match=r"^a\.x: holds 3 pictures, of which one is expected; data\.stacked"
        ):
            decode(data, "a.x")


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_several_pictures_are_a_volume(kind):
    array, data = several(kind)
    volume = images.decode(data, stacked=True)
    assert volume.shape[:3] == array.shape
    assert np.array_equal(volume[..., 0], array)
    if kind == "TIFF":
        assert np.array_equal(images.decode_mask(data, stacked=True), array)


def test_deep_colour_in_several_pictures():
    tifffile = pytest.importorskip("tifffile")
    array = np.random.default_rng(0).integers(0, 65536, (3, 4, 5, 3)).astype(np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric="rgb")
    assert np.array_equal(images.decode(buffer.getvalue(), stacked=True), array)


def test_pictures_of_several_sizes_are_no_volume():
    buffer = io.BytesIO()
    one, other = (Image.fromarray(np.zeros(size, np.uint8)) for size in ((4, 5), (5, 5)))
    one.save(buffer, "TIFF", save_all=True, append_images=[other])
    with pytest.raises(BadFile, match="must be alike, the first is 4 x 5 of uint8, number 1 5 x 5 of uint8"):
        images.decode(buffer.getvalue(), stacked=True)


def test_small_versions_in_a_tiff_are_no_pictures_of_their_own():
    array = np.arange(20, dtype=np.uint8).reshape(4, 5)
    small = Image.fromarray(array[::2, ::2])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "TIFF", save_all=True, append_images=[small])
    assert np.array_equal(images.decode(buffer.getvalue())[..., 0], array)


def test_what_lies_beside_a_photograph_in_its_file_is_left_aside():
    seen = np.zeros((16, 32, 3), np.uint8)
    seen[:8, :16] = 255
    main, preview = Image.fromarray(np.ascontiguousarray(STORED[6](seen))), Image.new("RGB", (8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    main.save(buffer, "MPO", save_all=True, append_images=[preview], exif=exif)
    with Image.open(buffer) as image:
        assert image.n_frames == 2
    decoded = images.decode(buffer.getvalue())
    assert decoded.shape == seen.shape
    assert np.abs(decoded.astype(int) - seen).max() < 20


def test_volumes_of_pictures_are_labelled(tmp_path):
    array, data = several("TIFF")
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.tif").write_bytes(data)
    raw = Masks(path=str(tmp_path), stacked=True).open().read(0)
    assert raw.values.shape == (3, 4, 5, 1)
    assert np.array_equal(raw.target, array)
    with pytest.raises(BadFile, match=r"images/a\.tif: holds 3 pictures"):
        Masks(path=str(tmp_path)).open().read(0)
    (file,) = find([tmp_path / "images/a.tif"])
    reader = Images(path="unused", stacked=True)
    assert np.array_equal(Loader(reader, Facts(3, 1)).read(file)[0][..., 0], array)
    with pytest.raises(BadFile, match="holds 3 pictures"):
        Loader(None, Facts(2, 1)).read(file)
