"""Foreign, damaged and hostile bytes in every format: only the library's own error comes out, and it names the file."""

from __future__ import annotations

import gzip
import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ndrnn.app.inputs import find
from ndrnn.data import BadFile
from ndrnn.data.faults import Faults
from ndrnn.data.formats import idx, images, pagexml, volumes
from ndrnn.data.formats.classmap import parse
from ndrnn.data.formats.limits import VARIABLE
from ndrnn.data.formats.storage import open_storage
from ndrnn.data.formats.writeback import write_back
from ndrnn.data.readers import pictures
from ndrnn.data.readers.arrays import Arrays
from ndrnn.data.readers.lines import Lines
from ndrnn.data.readers.pages import Pages
from ndrnn.data.reading import ReadLine, Word

nibabel = pytest.importorskip("nibabel")

MANY = os.environ.get("HYPOTHESIS_PROFILE") == "explore"
fuzz = settings(max_examples=3000 if MANY else 100)
LIMIT = 16 << 20
ROOM = 6 * LIMIT
"""What may be taken at a time: a picture is copied a few times on its way from Pillow to an array."""


@pytest.fixture(autouse=True, scope="module")
def limited() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(LIMIT / 2**30))
        yield


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No example takes much memory."""
    if peak() is None:
        pytest.skip("the system does not tell how much memory a process has held")
    before = peak()
    yield
    assert peak() - before < ROOM + (64 << 20)  # the search itself takes some too


def peak() -> int | None:
    """The most memory that this process has held since the last call."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


NUMBERS = [
    bytes.fromhex(text)
    for text in (
        "ffffffff",
        "00000000",
        "7fffffff",
        "ffffff7f",
        "80000000",
        "00000080",
        "0001",
        "ffff",
        "ff7f",
    )
]
WORDS = [
    b"inf",
    b"nan",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"&a;",
    b"\0",
    b"\xff",
    b"\t",
    b"<",
    b'"',
    b"\xd7\x90",
]


def places() -> st.SearchStrategy[int]:
    # most of what matters lies at the beginning
    return st.integers(0, 63) | st.integers(0, 1 << 16)


def edits(pieces: list[bytes]) -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """Ways to change bytes."""
    some = st.sampled_from(pieces) | st.binary(max_size=8)

    def at(data: bytes, place: int) -> int:
        return place % (len(data) + 1)

    def put(place: int, piece: bytes) -> Callable[[bytes], bytes]:
        return lambda data: data[: at(data, place)] + piece + data[at(data, place) + len(piece) :]

    def insert(place: int, piece: bytes) -> Callable[[bytes], bytes]:
        return lambda data: data[: at(data, place)] + piece + data[at(data, place) :]

    def drop(place: int, count: int) -> Callable[[bytes], bytes]:
        return lambda data: data[: at(data, place)] + data[at(data, place) + count :]

    def cut(place: int) -> Callable[[bytes], bytes]:
        return lambda data: data[: at(data, place)]

    def flip(place: int, bit: int) -> Callable[[bytes], bytes]:
        def change(data: bytes) -> bytes:
            if not data:
                return data
            changed = bytearray(data)
            changed[place % len(data)] ^= 1 << bit
            return bytes(changed)

        return change

    return st.one_of(
        st.builds(put, places(), some),
        st.builds(insert, places(), some),
        st.builds(drop, places(), st.integers(1, 40)),
        st.builds(cut, places()),
        st.builds(flip, places(), st.integers(0, 7)),
    )


def changed(seeds: list[bytes], pieces: list[bytes] = NUMBERS) -> st.SearchStrategy[bytes]:
    """Files of a kind that were changed in a few places, or are of no kind at all."""

    def apply(seed: bytes, changes: list[Callable[[bytes], bytes]]) -> bytes:
        for change in changes:
            seed = change(seed)
        return seed

    return st.builds(apply, st.sampled_from(seeds), st.lists(edits(pieces), max_size=4)) | st.binary(
        max_size=64
    )


def harmless(read: Callable[[], object], name: str = "file") -> None:
    """Reads, or refuses with the name and in words that can be printed."""
    try:
        read()
    except BadFile as error:
        fault = error
    else:
        return
    assert name in fault.file
    assert fault.reason
    str(fault).encode()


def picture(kind: str, mode: str, count: int = 1, **options: object) -> bytes:
    generator = np.random.default_rng(0)
    bands = len(mode) if mode in ("LA", "RGB", "RGBA") else 1
    made = []
    for _ in range(count):
        array = generator.integers(0, 256, (6, 5, bands), np.uint8).squeeze(-1 if bands == 1 else ())
        image = Image.fromarray(array.astype(np.uint16) << 7) if mode == "I;16" else Image.fromarray(array)
        made.append(image.convert(mode) if mode in ("1", "P") else image)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    several = {"save_all": True, "append_images": made[1:]} if count > 1 else {}
    oriented = {"exif": exif} if kind in ("PNG", "JPEG", "TIFF", "WEBP") else {}
    made[0].save(buffer, kind, **several, **oriented, **options)
    return buffer.getvalue()


PICTURES = {
    "PNG": [picture("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    + [picture("PNG", "RGB", 3)],
    "JPEG": [picture("JPEG", mode) for mode in ("L", "RGB")] + [picture("JPEG", "RGB", progressive=True)],
    "TIFF": [picture("TIFF", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "I;16")]
    + [picture("TIFF", "L", 3)]
    + [
        picture("TIFF", "RGB", compression=kind)
        for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    ],
    "GIF": [picture("GIF", "P"), picture("GIF", "P", 3), picture("GIF", "L")],
    "BMP": [picture("BMP", mode) for mode in ("1", "L", "P", "RGB")],
    "WEBP": [picture("WEBP", "RGB"), picture("WEBP", "RGBA", lossless=True), picture("WEBP", "RGB", 3)],
    "PPM": [picture("PPM", mode) for mode in ("1", "L", "RGB", "I;16")]
    + [b"P3 2 1 255\n1 2 3 4 5 6", b"Pf 1 1 -1 abcd"],
}


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the right sums, so that what is wrong within them is reached."""
    result, place = data[:8], 8
    while place + 12 <= len(data):
        size = struct.unpack(">I", data[place : place + 4])[0]
        end = place + 8 + size
        if end + 4 > len(data):
            break
        result += data[place:end] + struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return result + data[place:]


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures(kind):
    @fuzz
    @given(changed(PICTURES[kind]), st.booleans(), st.booleans())
    def check(data: bytes, stacked: bool, mended: bool) -> None:
        if kind == "PNG" and mended:
            data = with_checksums(data)
        harmless(lambda: images.decode(data, "file", stacked=stacked))
        harmless(lambda: images.decode_mask(data, "file", stacked=stacked))

    check()


def volume(
    dtype: str, kind: type = nibabel.Nifti1Image, slope: float | None = None, shape=(2, 3, 4)
) -> bytes:
    made = kind(np.arange(np.prod(shape)).reshape(shape).astype(dtype), np.eye(4), dtype=np.dtype(dtype))
    if slope is not None:
        made.header.set_slope_inter(slope, 1)
    return made.to_bytes()


VOLUMES = [
    *(volume(dtype) for dtype in ("u1", ">i2", "f4", "f8", "i8", "c8")),
    volume("i2", slope=0.5),
    volume("u1", nibabel.Nifti2Image),
    volume("u1", shape=(2, 2, 2, 1, 3)),
]


@fuzz
@given(changed(VOLUMES), st.sampled_from([bytes, gzip.compress]))
def test_volumes(data, pack):
    data = pack(data)
    harmless(lambda: volumes.decode(data, "file"))
    harmless(lambda: volumes.decode_mask(data, "file"))
    harmless(lambda: volumes.space(data, "file").orientation)
    harmless(lambda: pictures.picture([pictures.Part("file.nii", data, "file")]))


@fuzz
@given(changed([gzip.compress(data) for data in VOLUMES[:3]]))
def test_compressed_volumes(data):
    harmless(lambda: volumes.decode(data, "file"))


CLASSES = [
    b'0 = "a"\n"#ff0000" = [1, 2]\n',
    b'{"labels": {"a": 0, "b": [1]}}',
    b"name,r,g,b\na,1,2,3\n",
    b"name;value\na;1\n",
    b"# x\n0 = a\nb:1,2,3::\n1 2 3 c\n",
]


@fuzz
@given(changed(CLASSES), st.sampled_from([".toml", ".json", ".csv", ".txt"]))
def test_files_of_classes(data, ending):
    harmless(lambda: parse((f"file{ending}",), lambda name: (data, "file")))


def idx_file(kind: int, dtype: str, *shape: int) -> bytes:
    numbers = np.arange(np.prod(shape)).astype(dtype).tobytes()
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + numbers


IDX = [
    idx_file(8, "u1", 2, 3, 4),
    idx_file(0x0D, ">f4", 3, 2),
    idx_file(0x0B, ">i2", 5),
    idx_file(8, "u1", 0, 3),
]


@fuzz
@given(changed(IDX + [gzip.compress(data) for data in IDX]), st.booleans())
def test_idx(data, packed):
    data = gzip.compress(data) if packed else data
    harmless(lambda: idx.decode(data, "file"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def packed(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return buffer.getvalue()


def array_file(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


ARRAYS = [
    array_file(array)
    for array in (
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.asfortranarray(np.ones((2, 3, 4), np.float32)),
        np.arange(24, dtype=">i4"),
        np.array([[3, 4], [3, 4]]),
        np.array(5),
        np.array([True, False]),
        np.array(["a", "bc"]),
        np.zeros((0, 3)),
    )
]
SHAPES = [
    b"(99999999999,)",
    b"(-1,)",
    b"()",
    b"(2,2,2)",
    b"'<f8'",
    b"'|O'",
    b"'<c8'",
    b"[('a','i4')]",
    b"'V9'",
    b"'<U99'",
]


def samples(path: Path, **options: object) -> None:
    source = Arrays(path=str(path), **options).open()
    for index in range(min(3, len(source))):
        harmless(lambda index=index: source.read(index), path.name)


@fuzz
@given(
    changed(ARRAYS, NUMBERS + SHAPES),
    changed(ARRAYS, NUMBERS + SHAPES),
    st.none() | changed(ARRAYS, NUMBERS + SHAPES),
    st.booleans(),
)
def test_arrays(folder, values, labels, shapes, channels_last):
    members = {"image__npy": values, "label__npy": labels}
    if shapes is not None:
        members |= {"shape__npy": shapes, "test__npy": shapes}
    path = folder / "file.npz"
    path.write_bytes(packed(**members))
    harmless(lambda: samples(path, channels_last=channels_last), "file.npz")


@fuzz
@given(changed([packed(image__npy=ARRAYS[0], label__npy=ARRAYS[0]), ARRAYS[0], packed(image__npy=ARRAYS[1])]))
def test_archives_of_arrays(folder, data):
    path = folder / "whole.npz"
    path.write_bytes(data)
    harmless(lambda: samples(path), "whole.npz")


ZIP = packed(a__png=PICTURES["PNG"][1], b__txt=b"text" * 20) + b""


@fuzz
@given(changed([ZIP], [*NUMBERS, b"../", b"PK\x01\x02", b"PK\x05\x06"]))
def test_archives(folder, data):
    path = folder / "file.zip"
    path.write_bytes(data)

    def read() -> None:
        storage = open_storage(path)
        for name in storage.names:
            harmless(lambda name=name: storage.read(name), "file.zip")
        find([path], faults=Faults())

    harmless(read, "file.zip")


PAGES = [
    b"""<?xml version="1.0" encoding="UTF-8"?><PcGts xmlns="http://x"><Page imageFilename="a.png" imageWidth="6"
imageHeight="5"><TextRegion><TextLine id="l"><Coords points="0,0 4,0 4,4 0,4"/><TextEquiv index="0"><Unicode>a</Unicode>
</TextEquiv></TextLine></TextRegion></Page></PcGts>""",
    b"""<alto xmlns="http://x"><Description><MeasurementUnit>mm10</MeasurementUnit></Description><Layout><Page WIDTH="60"
HEIGHT="50"><TextBlock><TextLine ID="l" HPOS="2" VPOS="1" WIDTH="30" HEIGHT="20"><String CONTENT="a"/><HYP CONTENT="-"/>
</TextLine><TextLine><Shape><Polygon POINTS="0 6 11 6 11 9 0 9"/></Shape></TextLine></TextBlock></Page></Layout></alto>""",
    b"""<p:PcGts xmlns:p="http://x/pagecontent/2010-03-19"><p:Page imageFilename="a.png"><p:TextRegion><p:TextLine id="l">
<p:Baseline points="0,3 5,3"/></p:TextLine><p:TextLine><p:Word><p:Coords><p:Point x="0" y="0"/><p:Point x="4" y="0"/>
<p:Point x="4" y="4"/></p:Coords><p:TextEquiv><p:Unicode>a</p:Unicode></p:TextEquiv></p:Word></p:TextLine></p:TextRegion>
</p:Page></p:PcGts>""",
    b'<!DOCTYPE a [<!ENTITY a "b"><!ENTITY c SYSTEM "file:///etc/passwd">]><PcGts>&a;&c;</PcGts>',
]


READ = ReadLine("a b", 0.5, tuple((Word(word, 0.5, 0, 1), ((0, 0), (1, 0), (1, 1))) for word in "ab"))


@fuzz
@given(changed(PAGES, WORDS), st.sampled_from(WORDS), st.integers(0, 30))
def test_pages(folder, data, word, which):
    # one attribute or number of many becomes something else
    found = list(re.finditer(rb'"[^"<>]*"|\d+', data))
    if found and which < 25:
        match = found[which % len(found)]
        data = data[: match.start()] + b'"' + word + b'"' + data[match.end() :]
    pages = folder / "pages"
    pages.mkdir(exist_ok=True)
    (pages / "a.png").write_bytes(PICTURES["PNG"][1])
    (pages / "file.xml").write_bytes(data)

    def write() -> None:
        layout = pagexml.parse(data, "file")
        if layout is not None:
            lines = dict.fromkeys(range(len(layout.lines)), READ)
            again = pagexml.parse(write_back(data, layout, lines, (1.0, 1.0), "file"), "file")
            assert again is not None
            assert {line.text for line in again.lines if not isinstance(line, BadFile)} <= {READ.text}

    harmless(write)

    def read() -> None:
        source = Pages(path=str(pages)).open()
        for index in range(len(source)):
            harmless(lambda index=index: source.read(index), "pages")

    harmless(read, "pages")
    harmless(lambda: find([pages], Pages(path="unused"), Faults()), "pages")


@fuzz
@given(
    changed(
        [b"name\ttext\tsplit\na\tb\ttrain\na.png\tc\ttest\n", b"name\ttext\r\na\tb", b'name,text\na,"b"\n'],
        WORDS,
    ),
    st.booleans(),
)
def test_tables(folder, data, as_text):
    lines = folder / ("texts" if as_text else "table")
    lines.mkdir(exist_ok=True)
    (lines / "a.png").write_bytes(PICTURES["PNG"][1])
    (lines / ("a.gt.txt" if as_text else "t.tsv")).write_bytes(data)

    def read() -> None:
        source = Lines(path=str(lines), table="" if as_text else "t.tsv", height=3).open()
        for index in range(len(source)):
            harmless(lambda index=index: source.read(index), lines.name)

    harmless(read, "t.tsv")
