"""Files with pictures, opened by Pillow: of a fixed list of formats, within the limit of memory, and upright."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..faults import BadFile, naming
from .limits import VARIABLE, check_deflated, check_size, largest

try:
    from PIL import Image, UnidentifiedImageError
except ModuleNotFoundError as error:
    raise ImportError("reading images needs Pillow: pip install 'ndrnn[vision]'") from error

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
"""What is opened, whatever a file's name ends in. Pillow knows more, and starts other programs for some of them."""

MOST = 4096
"""Pictures of one file that are counted; more are more."""

_ORIENTATION = 0x0112  # of EXIF
_SUBFILE = 254  # of TIFF: bit 0, a smaller version of another picture; bit 2, a mask of another
_DEPTH, _PLANES, _KIND = (
    258,
    284,
    339,
)  # of TIFF: bits of a value; 1, a pixel's values lie together; 2, they are signed
_PHOTOMETRIC = 262  # of TIFF: 0, the lowest value is white
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # a pixel in memory, else 4
_BITS = {"1": 1, "L": 1, "P": 1, "RGB": 24, "RGBA": 32}  # a pixel of a PNG at least, else 8


class Pictures:
    """The pictures of an open file, one after the other."""

    def __init__(self, image: Image.Image, file: str) -> None:
        self._image = image
        self._file = file
        self.frames = list(_frames(image))
        """Where they are in the file: a TIFF's small versions of others are left out."""
        self.sixteen = False
        """Whether the picture that was loaded last is stored with 16 bits a value; of several channels Pillow keeps 8."""
        self.stretched: tuple[int, int] | None = None
        """The highest level that its file has, and what Pillow makes of it, where these differ."""
        self.turn = 1
        """How the picture that was loaded last is to be turned, EXIF's number from 1 (not at all) to 8."""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the picture at which the file stands, the first before any was loaded."""
        width, height = self._image.size
        return height, width

    @property
    def count(self) -> str:
        """How many there are, in words."""
        return f"more than {MOST}" if len(self.frames) > MOST else str(len(self.frames))

    def load(self, index: int) -> Image.Image:
        """A picture, in memory.

        Raises:
            BadFile: it has no pixels, or more than may be read.
        """
        image = self._image
        # seeking to where one is would begin an animation anew
        if image.tell() != self.frames[index]:
            image.seek(self.frames[index])
        _check(image, self._file)
        tags = getattr(image, "tag_v2", {})
        if image.mode == "L" and 2 in np.ravel(tags.get(_KIND, 1)):
            raise BadFile(self._file, "holds signed bytes, which are not read")
        if tags.get(_PLANES, 1) != 1 and max(np.ravel(tags.get(_DEPTH, 1))) > 8:
            # Pillow takes their bytes for pixels
            raise BadFile(
                self._file, "keeps planes of more than 8 bits apart; store the values of a pixel together"
            )
        self._note(image)
        turn = orientation(image) if image.format == "TIFF" else 0  # Pillow turns it while it loads it
        image.load()
        self.turn = turn or orientation(image)
        return image

    def _note(self, image: Image.Image) -> None:
        self.sixteen, self.stretched = False, None
        for codec, _, _, args in getattr(image, "tile", ()):
            raw, *rest = (args,) if isinstance(args, str) else args or ("",)
            self.sixteen |= ";16" in str(raw)
            if codec in ("ppm", "ppm_plain") and rest:
                self.sixteen |= image.mode == "RGB" and int(rest[0]) > 255
                self.stretched = int(rest[0]), 65535 if image.mode == "I" else 255
            elif str(raw).startswith(("L;2", "L;4")):
                self.stretched = 2 ** int(str(raw)[2]) - 1, 255


@contextmanager
def opened(data: bytes, file: str) -> Iterator[Pictures]:
    """The pictures in the bytes of a file; what goes wrong within the block is told of ``file``.

    Raises:
        BadFile: it is of another format, damaged, or larger than may be read.
    """
    try:
        with (
            naming(file, "damaged image"),
            _limited(),
            Image.open(io.BytesIO(data), formats=FORMATS) as image,
        ):
            if image.format == "PNG" and image.mode in _BITS:
                width, height = image.size
                check_deflated(width * height * _BITS[image.mode] // 8, len(data), file)
            _check(image, file)
            yield Pictures(image, file)
    except BadFile as fault:
        cause = fault.__cause__
        if isinstance(cause, UnidentifiedImageError):
            raise BadFile(
                file, f"not an image, or of a kind that is not read (formats: {', '.join(FORMATS)})"
            ) from cause
        if isinstance(cause, Image.DecompressionBombError):
            raise BadFile(file, f"has more pixels than may be read ({VARIABLE} sets the limit)") from cause
        raise


def orientation(image: Image.Image) -> int:
    """How a loaded picture is to be turned, EXIF's number from 1 (not at all) to 8; broken EXIF data says nothing.

    Pillow turns a TIFF while it loads it.
    """
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def as_stored(array: np.ndarray, orientation: int) -> np.ndarray:
    """What :func:`upright` turned, as it was before."""
    return upright(array, {6: 8, 8: 6}.get(orientation, orientation))


def white_is_zero(image: Image.Image) -> bool:
    """Whether the lowest value of a TIFF means white. Pillow minds it with 8 bits and less."""
    return bool(getattr(image, "tag_v2", {}).get(_PHOTOMETRIC, 1) == 0)


def highest(image: Image.Image) -> int:
    """The largest value that a picture of grey levels of up to 16 bits can hold; a TIFF may have fewer."""
    bits = int(np.max(getattr(image, "tag_v2", {}).get(_DEPTH, 16)))
    return 2 ** min(bits, 16) - 1


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W, ...) as they are meant to be seen, by EXIF's number."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(array[:: -1 if rows else 1, :: -1 if columns else 1])


def _check(image: Image.Image, file: str) -> None:
    width, height = image.size
    if not width or not height:
        raise BadFile(file, f"image of {height} x {width} pixels")
    check_size(width * height * _BYTES.get(image.mode, 4), file)


def _frames(image: Image.Image) -> Iterator[int]:
    if image.format == "MPO":
        # the first picture of a telephone's photograph is the photograph; others are thumbnails or maps of it
        kinds = [entry["Attribute"]["MPType"] for entry in getattr(image, "mpinfo", {}).get(0xB002, ())]
        yield 0
        yield from (index for index, kind in enumerate(kinds) if index and kind.startswith("Multi-Frame"))
    elif image.format == "TIFF":
        for index in range(MOST + 1):
            try:
                image.seek(index)
            except EOFError:
                break
            if not int(getattr(image, "tag_v2", {}).get(_SUBFILE, 0)) & 0b101 or not index:
                yield index
        image.seek(0)
    else:
        yield from range(min(getattr(image, "n_frames", 1), MOST + 1))


_lock = threading.Lock()
_inside = 0
_before: int | None = None


@contextmanager
def _limited() -> Iterator[None]:
    """Pillow's own limit of pixels, which large scans exceed, is ours within the block; it tells of twice the number."""
    global _inside, _before
    with _lock:
        if not _inside:
            _before = Image.MAX_IMAGE_PIXELS
            Image.MAX_IMAGE_PIXELS = largest() // 2 + 1
        _inside += 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, and of broken metadata that plays no part
            yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                Image.MAX_IMAGE_PIXELS = _before
