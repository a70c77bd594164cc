"""Images and masks from bytes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ndrnn.app.inputs import Loader, find
from ndrnn.data import BadFile
from ndrnn.data.batches import Facts
from ndrnn.data.formats import images
from ndrnn.data.formats.channels import to_channels
from ndrnn.data.formats.intensities import Intensities
from ndrnn.data.formats.labelmaps import palette, write_map, write_overlay
from ndrnn.data.readers.folders import Images


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_bit_of_a_png_arrives(channels, dtype, write_png):
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (5, 7, channels)).astype(dtype)
    decoded = images.decode(write_png(array))
    assert decoded.dtype == dtype
    assert np.array_equal(decoded, array)


def test_grey_with_alpha(write_png):
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 2)).astype(np.uint8)
    assert np.array_equal(images.decode(write_png(array)), array)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_grey_levels_in_every_lossless_format(kind):
    array = np.random.default_rng(0).integers(0, 256, (6, 9), np.uint8)
    decoded = images.decode(
        saved(Image.fromarray(array), kind, **({"lossless": True} if kind == "WEBP" else {}))
    )
    assert decoded.shape[:2] == (6, 9)
    assert all(np.array_equal(decoded[..., index], array) for index in range(min(3, decoded.shape[-1])))


def test_a_palette_is_colours_in_an_image_and_numbers_in_a_mask():
    labels = np.array([[0, 1], [2, 1]], np.uint8)
    image = Image.fromarray(labels, "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    data = saved(image)
    assert images.decode(data)[1, 0].tolist() == [70, 80, 90]
    assert images.decode_mask(data).tolist() == labels.tolist()


def test_masks_of_16_bits_and_of_one():
    labels = np.array([[0, 300], [2, 1]], np.uint16)
    assert images.decode_mask(saved(Image.fromarray(labels))).tolist() == labels.tolist()
    bits = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    assert images.decode_mask(saved(bits)).tolist() == [[0, 1], [1, 0]]


def test_a_mask_in_colour_is_refused_with_its_name():
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    with pytest.raises(BadFile, match=r"^m\.png: a mask must hold labels .* got RGB"):
        images.decode_mask(saved(image), "m.png")


@pytest.mark.parametrize("keep", [0, 10, 60, 0.5, 0.95])
def test_damaged_images_are_refused_with_their_name(keep, write_png):
    whole = write_png(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8))
    cut = int(len(whole) * keep) if isinstance(keep, float) else keep
    with pytest.raises(BadFile, match=r"^a\.png: "):
        images.decode(whole[:cut], "a.png")


@pytest.mark.parametrize("options", [{}, {"predictor": True}, {"tile": (16, 16)}, {"byteorder": ">"}])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_deep_colour_in_a_tiff(compression, options):
    tifffile = pytest.importorskip("tifffile")
    if compression is None and options.get("predictor"):
        pytest.skip("there is nothing to predict")
    array = np.random.default_rng(0).integers(0, 65536, (20, 23, 3)).astype(np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric="rgb", compression=compression, **options)
    assert np.array_equal(images.decode(buffer.getvalue()), array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_whose_zero_is_white(dtype):
    tifffile = pytest.importorskip("tifffile")
    array = np.array([[0, 1, 100, 200]], dtype)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric="miniswhite")
    assert np.array_equal(images.decode(buffer.getvalue())[..., 0], np.iinfo(dtype).max - array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_the_labels_of_a_tiff_whose_zero_is_white_are_the_numbers_in_it(dtype, compression):
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    labels = np.array([[0, 1, 100, 200]], dtype)
    tifffile.imwrite(buffer, labels, photometric="miniswhite", compression=compression)
    assert images.decode_mask(buffer.getvalue()).tolist() == labels.tolist()


def _tiff(bits: int, photometric: int, row: bytes, width: int) -> bytes:
    """A TIFF of one row, by the format's description alone."""
    tags = [(256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 1)]
    tags.append((279, len(row)))
    place = 8 + len(row) + len(row) % 2
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", place) + row.ljust(place - 8, b"\0") + directory


@pytest.mark.parametrize("photometric", [0, 1])
def test_four_bits_of_a_tiff(photometric):
    data = _tiff(4, photometric, b"\x03\x1f", 4)
    assert images.decode_mask(data).tolist() == [[0, 3, 1, 15]]
    shades = [0, 51, 17, 255]
    assert images.decode(data)[0, :, 0].tolist() == (
        shades if photometric else [255 - shade for shade in shades]
    )


def test_twelve_bits_of_a_tiff_are_all_of_its_range():
    data = _tiff(12, 1, bytes([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x01]), 4)
    assert images.decode_mask(data).tolist() == [[0, 4095, 2048, 1]]
    decoded = images.decode(data)
    assert decoded.dtype == np.uint16
    assert decoded[0, :, 0].tolist() == [0, 65535, round(2048 * 65535 / 4095), 16]
    assert Intensities().convert(decoded).flatten().tolist() == pytest.approx(
        [0, 1, 2048 / 4095, 1 / 4095], abs=1e-5
    )


def test_one_bit_is_black_and_white_whatever_is_stored():
    for photometric, row in ((1, b"\x60"), (0, b"\x90")):
        data = _tiff(1, photometric, row, 4)
        assert images.decode_mask(data).tolist() == [[0, 1, 1, 0]]
        assert images.decode(data)[0, :, 0].tolist() == [0, 255, 255, 0]


def test_signed_bytes_are_refused():
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.array([[-1, 1]], np.int8), photometric="minisblack")
    with pytest.raises(BadFile, match="holds signed bytes"):
        images.decode(buffer.getvalue())


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_deep_planes_apart_are_refused(compression):
    tifffile = pytest.importorskip("tifffile")
    options = {"photometric": "rgb", "planarconfig": "separate", "compression": compression}
    array = np.random.default_rng(0).integers(0, 256, (3, 20, 23), np.uint8)
    for values in (array, array.astype(np.uint16)):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, values, **options)
        if values is array:
            assert np.array_equal(images.decode(buffer.getvalue()), np.moveaxis(array, 0, -1))
        else:
            with pytest.raises(BadFile, match=r"a\.tif: keeps planes of more than 8 bits apart"):
                images.decode(buffer.getvalue(), "a.tif")


def test_channels_by_hand():
    colour = np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [100, 100, 100, 51]]], np.uint8)
    # luma of red; nothing on white; 0.2 of 100 and 0.8 of white
    assert to_channels(colour, 1)[..., 0].tolist() == [[76, 255, 224]]
    assert to_channels(colour[..., :3], 4)[..., 3].tolist() == [[255, 255, 255]]
    assert to_channels(colour[..., :1], 3).tolist() == [[[255] * 3, [0] * 3, [100] * 3]]
    with pytest.raises(ValueError, match="has 5 channels, expected 3"):
        to_channels(np.zeros((1, 1, 5)), 3)


def test_intensities_by_hand():
    stored = np.array([[[0], [32768], [65535]]], np.uint16)
    assert Intensities().convert(stored).flatten().tolist() == pytest.approx([0, 32768 / 65535, 1])
    assert Intensities(invert=True).convert(stored).flatten().tolist() == pytest.approx([1, 32767 / 65535, 0])
    narrow = np.array([[[10], [15], [20]]], np.uint8)
    assert Intensities(scale="sample").convert(narrow).flatten().tolist() == [0, 0.5, 1]
    assert Intensities(scale="sample").convert(narrow[:, :1]).flatten().tolist() == [0]
    kinds = np.array([[[10, 1000], [20, 3000]]], np.int16)
    assert Intensities(scale="channel").convert(kinds, colour=False).tolist() == [[[0, 0], [1, 1]]]
    together = Intensities(scale="sample").convert(kinds, colour=False)
    assert together.flatten().tolist() == pytest.approx([0, 990 / 2990, 10 / 2990, 1])
    with pytest.raises(ValueError, match="NaN or infinite"):
        Intensities().convert(np.array([[[np.nan]]]))


def test_label_maps_come_back_as_labels(tmp_path):
    labels = np.random.default_rng(0).integers(0, 12, (6, 8))
    write_map(labels, tmp_path / "map.png", 12)
    with Image.open(tmp_path / "map.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)
    write_map(labels + 300, tmp_path / "many.png", 400)
    with Image.open(tmp_path / "many.png") as image:
        assert np.array_equal(np.asarray(image), labels + 300)


def test_an_overlay_colours_labels_and_leaves_the_background(tmp_path):
    image = np.array([[[0], [255], [255]]], np.uint8)
    write_overlay(image, np.array([[0, 0, 1]]), tmp_path / "o.png", 2)
    with Image.open(tmp_path / "o.png") as overlay:
        shown = np.asarray(overlay).astype(int)
    assert shown[0, :2].tolist() == [[0] * 3, [255] * 3]
    assert shown[0, 2].tolist() == pytest.approx((0.55 * 255 + 0.45 * palette(2)[1]).tolist(), abs=1)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_an_overlay_is_the_same_in_pieces(channels, tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    image = draw.integers(20, 200, (7, 5, channels), np.uint8)
    labels = draw.integers(0, 3, (7, 5))
    write_overlay(image, labels, tmp_path / "whole.png", 3)
    monkeypatch.setattr("ndrnn.data.formats.pieces.MOST", 10 * channels)  # two rows
    write_overlay(image, labels, tmp_path / "pieces.png", 3)
    with Image.open(tmp_path / "whole.png") as whole, Image.open(tmp_path / "pieces.png") as pieces:
        assert np.array_equal(np.asarray(whole), np.asarray(pieces))
        assert (np.asarray(whole)[labels == 0] < 255).any()


def test_the_span_of_a_sample_is_that_of_all_its_pieces(monkeypatch):
    monkeypatch.setattr("ndrnn.data.formats.pieces.MOST", 4)
    stored = np.full((5, 2, 2), 100, np.uint8)
    stored[0, 1, 0], stored[4, 0, 1] = 3, 250
    low, high = Intensities(scale="channel").span(stored)
    assert (low.tolist(), high.tolist()) == ([3, 100], [100, 250])
    low, high = Intensities(scale="sample").span(stored)
    assert (low.tolist(), high.tolist()) == ([3], [250])


def test_colours_of_a_palette_differ():
    assert len({tuple(color) for color in palette(40)}) == 40


def test_what_has_no_white_is_not_converted():
    signed = np.array([[[100, 300]]], np.int16)
    assert np.array_equal(to_channels(signed, 2), signed)
    with pytest.raises(ValueError, match="has 2 channels of int16, expected 1; only unsigned integers"):
        to_channels(signed, 1)
    wide = np.array([[[2**32 - 1, 2**32 - 1]]], np.uint32)
    assert to_channels(wide, 1).tolist() == [[[2**32 - 1]]]


@pytest.mark.parametrize("scale", ["type", "sample", "channel"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("stored", "wanted"), [(2, 1), (4, 3), (4, 1), (3, 1)])
def test_parts_of_an_image_are_as_the_whole(stored, wanted, dtype, scale, tmp_path):
    generator = np.random.default_rng(0)
    largest = 1 if dtype is np.float32 else np.iinfo(dtype).max
    values = (generator.random((9, 7, stored)) * largest).astype(dtype)
    loader = Loader(Images(path="unused", scale=scale, invert=True), Facts(2, wanted))
    Image.new("L", (1, 1)).save(tmp_path / "a.png")
    (file,) = find([tmp_path / "a.png"])
    whole = loader.features(values, file)
    window = loader.window(values, file)
    for part in ((slice(0, 4), slice(2, 5)), (slice(8, 9), slice(0, 7))):
        assert torch.equal(window(part), whole[part])
    if scale == "sample":
        assert (float(whole.min()), float(whole.max())) == pytest.approx((0, 1))


def _png(depth: int, kind: int, rows: list[bytes], width: int, transparent: bytes = b"") -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(name, content)
        for name, content in ((b"IHDR", head), (b"tRNS", transparent), (b"IDAT", pixels), (b"IEND", b""))
        if content or name == b"IEND"
    )


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (_png(4, 0, [b"\x01\x23", b"\x4f\x67"], 4), [[0, 1, 2, 3], [4, 15, 6, 7]]),
        (_png(2, 0, [b"\x1b", b"\xe4"], 4), [[0, 1, 2, 3], [3, 2, 1, 0]]),
        (_png(1, 0, [b"\x50", b"\xa0"], 4), [[0, 1, 0, 1], [1, 0, 1, 0]]),
        (b"P5 2 1 15 \x0f\x01", [[15, 1]]),
        (b"P5 3 1 200 \xc8\x64\x07", [[200, 100, 7]]),
        (b"P5 2 1 4095 \x0f\xff\x01\x2c", [[4095, 300]]),
        (b"P2 3 1 3 3 1 2", [[3, 1, 2]]),
        (b"P1 2 1 0 1", [[1, 0]]),
    ],
)
def test_grey_levels_of_fewer_bits_are_the_labels_of_a_mask(data, labels):
    assert images.decode_mask(data).tolist() == labels


@pytest.mark.parametrize("interlaced", [False, True])
def test_grey_with_alpha_of_16_bits(interlaced, write_png):
    array = np.random.default_rng(0).integers(0, 65536, (1 if interlaced else 5, 1 if interlaced else 7, 2))
    array = array.astype(np.uint16)
    data = bytearray(write_png(array))
    if interlaced:  # of one pixel that is the same, but for the header
        data[28] = 1
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    decoded = images.decode(bytes(data))
    assert decoded.dtype == np.uint16
    assert np.array_equal(decoded, array)


@pytest.mark.parametrize(
    ("depth", "row", "key", "seen"),
    [
        (1, b"\x60", 1, [0, 255, 255, 0]),
        (2, b"\x1b", 2, [0, 85, 170, 255]),
        (4, b"\x03\x1f", 3, [0, 51, 17, 255]),
        (8, bytes([5, 0, 255, 7]), 255, [5, 0, 255, 7]),
        (16, struct.pack(">4H", 300, 44, 0, 65535), 300, [300, 44, 0, 65535]),
    ],
)
def test_a_transparent_grey_is_alpha(depth, row, key, seen):
    data = _png(depth, 0, [row], 4, struct.pack(">H", key))
    decoded = images.decode(data)
    full = 65535 if depth == 16 else 255
    transparent = {1: [0, 1, 1, 0], 2: [0, 0, 1, 0], 4: [0, 1, 0, 0], 8: [0, 0, 1, 0], 16: [1, 0, 0, 0]}[
        depth
    ]
    assert decoded[0, :, 0].tolist() == seen
    assert decoded[0, :, 1].tolist() == [0 if clear else full for clear in transparent]
    # of a mask it is a number as any other
    assert images.decode_mask(data).tolist() == images.decode_mask(_png(depth, 0, [row], 4)).tolist()


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_is_alpha(depth):
    colours = [1, 2, 3, 1, 2, 4, 0, 0, 0]
    if depth == 16:
        colours[:6] = 300, 2, 3, 44, 2, 3  # which differ in their upper bytes
    pack = (lambda *values: bytes(values)) if depth == 8 else (lambda *values: struct.pack(">9H", *values))
    decoded = images.decode(_png(depth, 2, [pack(*colours)], 3, struct.pack(">3H", *colours[:3])))
    full = 2**depth - 1
    assert decoded[0].tolist() == [[*colours[:3], 0], [*colours[3:6], full], [0, 0, 0, full]]


def test_a_transparent_grey_of_a_gif_is_alpha():
    image = Image.fromarray(np.array([[0, 9, 255]], np.uint8))
    decoded = images.decode(saved(image, "GIF", transparency=9))
    assert decoded[0, :, -1].tolist() == [255, 0, 255]


def test_16_bits_that_cannot_be_read_whole_are_refused():
    with pytest.raises(BadFile, match=r"a\.ppm: holds 16 bits a value in channels of which Pillow keeps 8"):
        images.decode(b"P6 1 1 65535 " + struct.pack(">3H", 1, 300, 65535), "a.ppm")
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, np.full((2, 2, 4), 300, np.uint16), photometric="rgb", extrasamples=["unspecified"]
    )
    with pytest.raises(BadFile, match="holds 16 bits a value"):
        images.decode(buffer.getvalue())


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)], ids=["RGB", "LA", "RGBA"])
def test_a_mask_of_16_bits_in_colour_is_refused_as_its_low_bits_are_not_known(kind, channels):
    data = _png(16, kind, [struct.pack(f">{channels}H", *[300] * channels)], 1)
    with pytest.raises(BadFile, match="16 bits"):
        images.decode_mask(data, "m.png")


@pytest.mark.parametrize(
    "stored",
    [
        np.array([[-3e38], [0], [3e38]], np.float32),
        np.array([[-1e300], [0], [1e300]]),
        np.array([[1e9], [1e9 + 0.5], [1e9 + 1]]),
        np.array([[2**32 - 3], [2**32 - 2], [2**32 - 1]], np.uint32),
        np.array([[2**40], [2**40 + 1], [2**40 + 2]]),
    ],
    ids=["wide", "wider", "far", "uint32", "int64"],
)
def test_the_range_of_a_sample_may_be_wide_or_far_from_zero(stored):
    made = Intensities(1, "sample").convert(stored)
    assert made.dtype == torch.float32
    assert made.ravel().tolist() == pytest.approx([0, 0.5, 1], abs=1e-6)


def test_a_range_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"from -1\.7e\+308 to"):
        Intensities(1, "sample").convert(np.array([[-1.7e308], [1.7e308]]))
