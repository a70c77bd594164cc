"""How few bits pictures take: ``python -m benchmarks.codec FOLDER --model RUN``, beside PNG, WebP and JPEG XL.

Every coder goes both ways and has to give the picture back, in a process of its own where it is timed. ``--grey`` and ``--crop`` make of
the pictures what trials on grey ones measure; ``--bits-only`` leaves out what machines differ in, and ``--coders`` all
coders but those that are named.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from PIL import Image

from ndrnn.app.codec_model import coding_model
from ndrnn.density.use.codec import compress, decompress
from ndrnn.density.use.codec.kernels import instruction_sets
from ndrnn.saving.atomic import replacing

from . import machine
from .measure import Effort, in_turn
from .table import Table, report, to_json

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".webp")


def picture(path: Path, grey: bool, crop: Sequence[int] | None) -> np.ndarray:
    """The samples (H, W) or (H, W, 3)."""
    with Image.open(path) as image:
        array = np.asarray(image.convert("L" if grey else "RGB"))
    if crop:
        top, left = (max(0, (size - wanted) // 2) for size, wanted in zip(array.shape, crop, strict=False))
        array = array[top : top + crop[0], left : left + crop[1]]
    return array


def by_model(name: str, threads: int) -> tuple[Callable[[np.ndarray], bytes], Callable[[bytes], np.ndarray]]:
    model = coding_model(name).model
    return (
        lambda array: compress(model, array, threads=threads),
        lambda data: decompress(model, data, threads=threads).numpy(),
    )


def by_pillow(
    kind: str, **options: object
) -> tuple[Callable[[np.ndarray], bytes], Callable[[bytes], np.ndarray]]:
    def write(array: np.ndarray) -> bytes:
        to = io.BytesIO()
        Image.fromarray(array).save(to, kind, **options)
        return to.getvalue()

    def read(data: bytes) -> np.ndarray:
        array = np.asarray(Image.open(io.BytesIO(data)))
        return array

    return write, read


def by_jpeg_xl(effort: int) -> tuple[Callable[[np.ndarray], bytes], Callable[[bytes], np.ndarray]]:
    def through(program: Sequence[str], data: bytes, before: str, after: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in" + before), Path(folder, "out" + after)
            source.write_bytes(data)
            subprocess.run([program[0], source, target, *program[1:]], check=True, capture_output=True)
            return target.read_bytes()

    write_png, read_png = by_pillow("PNG")
    return (
        lambda array: through(
            ["cjxl", "-d", "0", "-e", str(effort), "--num_threads=0"], write_png(array), ".png", ".jxl"
        ),
        lambda data: read_png(through(["djxl"], data, ".jxl", ".png")),
    )


CODERS = {
    "PNG": lambda _: by_pillow("PNG", optimize=True),
    "WebP": lambda _: by_pillow("WEBP", lossless=True, quality=100, method=6),
    "JPEG XL 7": lambda _: by_jpeg_xl(7),
    "JPEG XL 9": lambda _: by_jpeg_xl(9),
    "ndrnn": lambda model: by_model(model, 1),
    "ndrnn, 2 threads": lambda model: by_model(model, 2),
}


TIMES = "encode", "decode", "encode, processor", "decode, processor"


def measure_one(order: dict[str, object]) -> dict[str, float]:
    """One coder on one picture, in this process."""
    array = picture(Path(str(order["path"])), bool(order["grey"]), order["crop"])  # type: ignore[arg-type]
    encode, decode = CODERS[str(order["coder"])](str(order["model"]))
    memory = _memory()
    start = _clocks()
    data = encode(array)
    middle = _clocks()
    back = decode(data)
    end = _clocks()
    # WebP has no grey
    same = np.array_equal(back, array) or (back.ndim == 3 and np.array_equal(back[..., 0], array))
    if not same:
        raise RuntimeError("the picture did not come back")
    return {
        "bits": 8 * len(data) / array.size,
        "encode": middle[0] - start[0],
        "decode": end[0] - middle[0],
        "encode, processor": middle[1] - start[1],
        "decode, processor": end[1] - middle[1],
        "memory": (_memory() - memory) / 1e6,
    }


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


def tables(options: argparse.Namespace) -> list[Table]:
    names = [name for name in options.coders if not name.startswith("JPEG XL") or shutil.which("cjxl")]
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
    measure = measure_one if options.bits_only else apart
    for path in sorted(options.folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES:
            continue
        order = {"path": str(path), "grey": options.grey, "crop": options.crop, "model": options.model}
        for name in names:
            print(f"{path.name}: {name}", file=sys.stderr, flush=True)
            found[name].append(measure({**order, "coder": name}))
        rates.add(path.stem, *(found[name][-1]["bits"] for name in names))
    if not rates.rows:
        raise SystemExit(f"{options.folder}: holds no pictures")
    rates.add("mean", *(mean(one["bits"] for one in found[name]) for name in names))
    for name, ones in found.items():
        own = (
            None if name.startswith("JPEG XL") else mean(one["memory"] for one in ones)
        )  # a program of its own
        costs.add(name, *(mean(one[key] for one in ones) for key in TIMES), own)
    return [rates] if options.bits_only else [rates, costs]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codec", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--model", default="photographs-grey", help="as of ndrnn compress")
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
    if options.folder is None:
        parser.error("FOLDER must be given")
    made, described = tables(options), machine.describe()
    if not options.bits_only:
        described["instruction set"] = instruction_sets()[0]
        described["torch.mm, GFLOP/s"] = round(matrix_rate() / 1e9)
    print(report(described, made), end="")
    if options.json:
        with replacing(options.json) as path:
            path.write_text(to_json(described, made), encoding="utf-8")


if __name__ == "__main__":
    main()
