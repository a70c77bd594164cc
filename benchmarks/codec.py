"""How few bits pictures take: ``python -m benchmarks.codec FOLDER --model RUN``, beside PNG, WebP, JPEG XL and, with
imagecodecs installed, JPEG-LS.

Every coder goes both ways and has to give the picture back, in a process of its own where it is timed. ``--grey`` and ``--crop`` make of
the pictures what trials on grey ones measure; ``--bits-only`` leaves out what machines differ in, and ``--coders`` all
coders but those that are named. ``--classes`` codes pictures of other kinds instead: screenshots, drawings, noise, and
what is made of a photograph of FOLDER, if one is given.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from PIL import Image

from ndrnn.app.codec_model import CodingModels
from ndrnn.app.samples import Samples, full_range
from ndrnn.density.use.codec import compress, decompress
from ndrnn.density.use.codec.kernels import instruction_sets

from . import codec_classes, machine
from .measure import Effort, in_turn
from .table import Table, publish

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".webp")


Coder = tuple[Callable[[Image.Image], bytes], Callable[[bytes], np.ndarray]]
"""From a picture to bytes, and from these to its samples."""


def picture(path: Path, grey: bool, crop: Sequence[int] | None) -> Image.Image:
    """In grey, or in colour."""
    with Image.open(path) as image:
        array = np.asarray(image.convert("L" if grey else "RGB"))
    if crop:
        top, left = (max(0, (size - wanted) // 2) for size, wanted in zip(array.shape, crop, strict=False))
        array = array[top : top + crop[0], left : left + crop[1]]
    return Image.fromarray(array)


def by_model(name: str, threads: int) -> Coder:
    """As ``ndrnn compress`` does, without files."""
    models = CodingModels(name)
    used = []

    def write(image: Image.Image) -> bytes:
        array = np.asarray(image)
        bits = 1 if image.mode == "1" else 8 * array.itemsize
        samples = Samples(array.astype(np.uint8) if bits == 1 else array, bits)
        coding = models.of(samples.axes, samples.channels)
        samples = full_range(samples) if coding.ships else samples
        used[:] = [coding.model]
        return compress(coding.model, samples.values, bits=samples.bits, threads=threads)

    return write, lambda data: decompress(used[0], data, threads=threads).numpy()


def by_pillow(kind: str, **options: object) -> Coder:
    def write(image: Image.Image) -> bytes:
        to = io.BytesIO()
        image.save(to, kind, **options)
        return to.getvalue()

    return write, lambda data: np.asarray(Image.open(io.BytesIO(data)))


def by_webp() -> Coder:
    """In colour, of which WebP has nothing else."""
    write, read = by_pillow("WEBP", lossless=True, quality=100, method=6)
    return lambda image: write(image.convert("RGB")), read


def by_jpeg_ls() -> Coder:
    import imagecodecs

    def write(image: Image.Image) -> bytes:
        array = np.asarray(image)
        array = array.astype(np.uint8) if image.mode == "1" else array
        data: bytes = imagecodecs.jpegls_encode(array, out=2 * array.nbytes + 4096)  # noise grows
        return data

    return write, imagecodecs.jpegls_decode


def by_jpeg_xl(effort: int) -> Coder:
    def through(program: Sequence[str], data: bytes, before: str, after: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in" + before), Path(folder, "out" + after)
            source.write_bytes(data)
            subprocess.run([program[0], source, target, *program[1:]], check=True, capture_output=True)
            return target.read_bytes()

    write_png, read_png = by_pillow("PNG")
    return (
        lambda image: through(
            ["cjxl", "-d", "0", "-e", str(effort), "--num_threads=0"], write_png(image), ".png", ".jxl"
        ),
        lambda data: read_png(through(["djxl"], data, ".jxl", ".png")),
    )


def jpeg_xl_size(picture: np.ndarray) -> int | None:
    """Bytes without loss at effort 9, or None where the coder is not installed."""
    if shutil.which("cjxl") is None:
        return None
    encode, _ = by_jpeg_xl(9)
    return len(encode(Image.fromarray(np.ascontiguousarray(picture))))


CODERS = {
    "PNG": lambda _: by_pillow("PNG", optimize=True),
    "WebP": lambda _: by_webp(),
    "JPEG-LS": lambda _: by_jpeg_ls(),
    "JPEG XL 7": lambda _: by_jpeg_xl(7),
    "JPEG XL 9": lambda _: by_jpeg_xl(9),
    "ndrnn": lambda model: by_model(model, 1),
    "ndrnn, 2 threads": lambda model: by_model(model, 2),
}


TIMES = "encode", "decode", "encode, processor", "decode, processor"


def measure_one(order: dict[str, object]) -> dict[str, float]:
    """One coder on one picture of a folder, in this process."""
    image = picture(Path(str(order["path"])), bool(order["grey"]), order["crop"])  # type: ignore[arg-type]
    return measure(image, str(order["coder"]), str(order["model"]))


def measure(image: Image.Image, coder: str, model: str) -> dict[str, float]:
    """One coder on one picture: bits a sample, seconds, and megabytes."""
    encode, decode = CODERS[coder](model)
    memory = _memory()
    start = _clocks()
    data = encode(image)
    middle = _clocks()
    back = decode(data)
    end = _clocks()
    # some have neither grey nor palettes
    if not any(
        np.array_equal(back, np.asarray(image if mode is None else image.convert(mode)))
        for mode in _same(image)
    ):
        raise RuntimeError("the picture did not come back")
    return {
        "bits": 8 * len(data) / np.asarray(image).size,
        "encode": middle[0] - start[0],
        "decode": end[0] - middle[0],
        "encode, processor": middle[1] - start[1],
        "decode, processor": end[1] - middle[1],
        "memory": (_memory() - memory) / 1e6,
    }


def _same(image: Image.Image) -> list[str | None]:
    """The modes in which a picture says the same as in its own."""
    return [None, "L", "RGB"] if image.mode in ("1", "L") else [None, "RGB"] if image.mode == "P" else [None]


def _clocks() -> tuple[float, float]:
    """Elapsed time, and that of the processors in this process and those that it waited for."""
    return time.perf_counter(), sum(os.times()[:4])


def _memory() -> int:
    """The most bytes that this process has had so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def apart(order: dict[str, object]) -> dict[str, float]:
    """The same in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.codec", "--one"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return answer


def matrix_rate() -> float:
    """Of torch.mm on one thread, in float32: operations a second."""
    torch.set_num_threads(1)
    left, right = torch.randn(320, 140), torch.randn(140, 80)
    times = in_turn({"product": lambda: torch.mm(left, right)}, Effort.quick("cpu"))
    return 2.0 * 320 * 140 * 80 / times["product"].median


def installed(coders: Sequence[str]) -> list[str]:
    """Those that can be used here."""
    there = {"JPEG XL": shutil.which("cjxl"), "JPEG-LS": find_spec("imagecodecs")}
    return [name for name in coders if all(found or not name.startswith(of) for of, found in there.items())]


def class_table(options: argparse.Namespace) -> Table:
    """Bits a sample of each class of pictures."""
    names = [name for name in installed(options.coders) if not name.endswith("threads")]
    result = Table("Bits a sample, by class of picture", {"class": "", **dict.fromkeys(names, ".3f")})
    for title, image in _classes(options.folder):
        if options.only and not any(text in title for text in options.only):
            continue
        print(title, file=sys.stderr, flush=True)
        deep = image.mode.startswith("I")
        result.add(
            title,
            *(
                None if deep and name == "WebP" else measure(image, name, options.model)["bits"]
                for name in names
            ),
        )
    return result


def _classes(folder: Path | None) -> Iterator[tuple[str, Image.Image]]:
    yield from codec_classes.drawn()
    for path in _pictures(folder)[:1] if folder else []:
        yield from codec_classes.of_photograph(picture(path, False, None))


def _pictures(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise SystemExit(f"{folder}: holds no pictures")
    return found


def tables(options: argparse.Namespace) -> list[Table]:
    names = installed(options.coders)
    rates = Table("Bits a sample", {"picture": "", **dict.fromkeys(names, ".3f")})
    costs = Table(
        "Time and memory, means over the pictures",
        {
            "coder": "",
            "there, s": ".2f",
            "back, s": ".2f",
            "there, processor s": ".2f",
            "back, processor s": ".2f",
            "most memory, MB": ".0f",
        },
    )
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    one = measure_one if options.bits_only else apart
    for path in _pictures(options.folder):
        order = {"path": str(path), "grey": options.grey, "crop": options.crop, "model": options.model}
        for name in names:
            print(f"{path.name}: {name}", file=sys.stderr, flush=True)
            found[name].append(one({**order, "coder": name}))
        rates.add(path.stem, *(found[name][-1]["bits"] for name in names))
    rates.add("mean", *(mean(each["bits"] for each in found[name]) for name in names))
    for name, ones in found.items():
        own = (
            None if name.startswith("JPEG XL") else mean(each["memory"] for each in ones)
        )  # a program of its own
        costs.add(name, *(mean(each[key] for each in ones) for key in TIMES), own)
    return [rates] if options.bits_only else [rates, costs]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codec", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--model", default="", help="as of ndrnn compress")
    parser.add_argument("--classes", action="store_true", help="pictures of other kinds")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="classes whose name contains one of these")
    parser.add_argument("--grey", action="store_true", help="make the pictures grey")
    parser.add_argument(
        "--crop", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help="take their middle alone"
    )
    parser.add_argument("--bits-only", action="store_true", help="no times and no memory")
    parser.add_argument(
        "--coders", nargs="+", choices=CODERS, default=list(CODERS), metavar="NAME", help="these alone"
    )
    parser.add_argument("--json", type=Path, help="also keep the tables here")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure_one(json.load(sys.stdin))))
        return
    if options.folder is None and not options.classes:
        parser.error("FOLDER must be given")
    described = machine.describe()
    made = [class_table(options)] if options.classes else tables(options)
    if not options.bits_only and not options.classes:
        described["instruction set"] = instruction_sets()[0]
        described["torch.mm, GFLOP/s"] = round(matrix_rate() / 1e9)
    publish(described, made, options.json)


if __name__ == "__main__":
    main()
