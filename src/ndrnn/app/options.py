"""The options of the commands, a frozen dataclass each: words, defaults and help.

Nothing here brings PyTorch: a word of help or an error comes at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..registry import layers
from ..tasks.augmentation import Augment
from .shards import Shard

KINDS = {1: "signals", 2: "images", 3: "volumes"}
"""What samples of so many axes are called."""


@dataclass(frozen=True)
class Info:
    """Versions, backends, tasks and formats here; with MODEL, what was trained, on what, and how large it is."""

    model: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL]")] = None
    """A run's folder, or weights (.safetensors)."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Models:
    """Trained models that come with the package; with NAME the card of one: data, authors, licences, command, results.
    Every command that takes a trained density takes such a name."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
    """One of them."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Check:
    """Read all data and name every file that cannot be used, and why; exit status 1 if there is one. Tells sizes, classes,
    of masks the labels that occur, of texts how often each character does and the files of the rarest, and how large the
    network would be."""

    strict: bool = False
    """Stop at the first file that cannot be used."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Train:
    """Train by a recipe. The run's folder gets the recipe (config.toml), metrics.csv, TensorBoard's logs where it is
    installed, best.safetensors and last.safetensors, the state to resume from (last.ckpt), and report.html."""

    out: Path = Path("runs/latest")
    """Folder of the run."""
    resume: bool = False
    """Go on with the run in that folder, or begin it. More --training.epochs or --training.minutes prolong one."""
    start: Annotated[Path | None, tyro.conf.arg(name="from", metavar="RUN")] = None
    """Begin with the weights of another run, or of a file of them, as far as they fit: by name and shape, and of the
    outputs those of classes and characters that both know. What does not fit is told and begins anew. Without a recipe,
    task and options are those of that run, unless others are named."""
    strict: bool = False
    """Stop at the first file that cannot be used, rather than leave it out."""
    devices: int = 1
    """Processors of the kind that is used, on each machine."""
    nodes: int = 1
    """Machines."""
    precision: str = "32-true"
    """Lightning's name of the arithmetic: 32-true, bf16-mixed, 16-mixed or 64-true."""
    force: bool = False
    """Begin anew in a folder that holds a run or other files; the files of the old run are lost."""
    json: bool = False
    """Print one JSON object at the end, and everything else on standard error."""


@dataclass(frozen=True)
class Tune:
    """Search for good options of a recipe, by the held-out samples of its training alone: those of the test are read, since
    classes and characters are those of all samples, but nothing is learned from them and nothing measured on them. Trials
    are trainings in folders of their own: all get a ninth of theirs, the best third a third, and the best third of these the
    whole. What is found is a run as by train with these options."""

    out: Path = Path("runs/tune")
    """Folder of the search; its trials are 000, 001, ..."""
    search: tuple[str, ...] = ()
    """What is tried: OPTION=A,B,C or OPTION=LOW..HIGH, such as training.learning-rate=0.001..0.1 'network.hidden=8 16,16 32'.
    By default five learning rates, from a ninth of the recipe's to nine times it."""
    trials: int = 9
    """At most so many; more combinations than these are drawn from."""
    minutes: float | None = None
    """End after this long; --resume goes on."""
    seed: int = 0
    """Of what is drawn."""
    resume: bool = False
    """Go on with the search in that folder, or begin it."""
    strict: bool = False
    """Stop at the first file that cannot be used."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials must be at least 1, got {self.trials}")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes must be above 0, got {self.minutes}")


@dataclass(frozen=True)
class Compare:
    """Runs in one table: the figures of the best check on held-out samples, weights, passes, minutes, how far each run
    is, and the options in which they differ."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of runs."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("RUN must name at least one run's folder, got none")


@dataclass(frozen=True)
class Evaluate:
    """Measure the model of a run on the test or validation samples of its data, or of data that options name."""

    split: Literal["test", "validation", "train", "all"] | None = None
    """Which samples; by default those of the test, or of the validation where there are none. Of data that names no parts
    a share is held out as in training: all measures every sample."""
    weights: str = "best.safetensors"
    """Which weights of the run."""
    beam: int | None = None
    """Prefixes that decoding keeps, for networks that read; by default as in the recipe, 0 for the most probable path."""
    views: bool | None = None
    """Whether networks that read look at each line in several ways, see the recipe's key; by default as it says."""
    calibrate: bool = False
    """First learn from the validation samples of the run's own data by which temperature its confidences come true, and
    keep it in these weights, as train does at its end."""
    shard: str = ""
    """Only a share of the samples: 3/16 means those with the numbers 3, 19, 35, ... in their order, so that 16 jobs, from 0/16
    to 15/16, share the work. It needs --out; ndrnn join makes one result of all."""
    out: Path | None = None
    """Folder for the figures too, as evaluation.json."""
    force: bool = False
    """Overwrite figures that are there already."""
    strict: bool = False
    """Stop at the first file that cannot be used."""
    warp: Augment = field(default_factory=Augment)
    """How far each sample is bent and moved before it is measured; not at all by default."""
    repeats: int = 1
    """How often all samples are bent anew and measured; the mean of every metric is given, and the standard deviation."""
    seed: int = 0
    """Of the first repeat's bending; each further one has the next number."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if Shard.of(self.shard).count > 1 and (self.out is None or self.warp.active):
            raise ValueError(
                "shard needs --out, a folder for its part of the figures, and samples that are not bent"
            )
        if Shard.of(self.shard).count > 1 and self.calibrate:
            raise ValueError("calibrate first, without shard: the parts have to be of the same weights")
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {self.repeats}")
        if self.seed < 0:
            raise ValueError(f"seed must not be below 0, got {self.seed}")
        if not self.warp.active and self.warp != Augment():
            raise ValueError("warp.elastic_sigma has no meaning without warp.elastic_alpha above 0")
        if not self.warp.active and self.repeats > 1:
            raise ValueError(
                f"repeats must be 1 where no option of warp bends the samples anew, got {self.repeats}"
            )


@dataclass(frozen=True)
class Predict:
    """Use a trained model on files. MODEL is a run's folder or weights; INPUT an image, a volume, a folder or a zip
    archive; for a network that learned from pages also a PAGE or ALTO file beside its image. Labels become PNG maps with a
    palette, or NIfTI, TIFF or an array like the file; of everything predictions.jsonl tells, a JSON object a line: labels and
    their confidence, class and probabilities, text and confidence, or bits per pixel."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or weights (.safetensors)."""
    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT [INPUT ...]")]
    """Images, volumes, folders, zip archives; arrays (.npy) for what learned from arrays, for densities, and for weights
    without a recipe beside them."""
    out: Path | None = None
    """Folder for the results; without it the lines are printed, and maps cannot be had."""
    format: Literal["jsonl", "page", "alto", "hocr", "txt"] = "jsonl"
    """Also write the texts of each page, or of each image of a line: page and alto into a copy of its XML file of that kind,
    or where it has none as a new one; hocr; txt, a line each. Needs --out."""
    beam: int | None = None
    """Prefixes that decoding keeps, for networks that read; by default as in training, 0 for the most probable path."""
    views: bool | None = None
    """Whether networks that read look at each line in several ways, and keep what they are surest of: fewer errors, in
    eleven times the time; by default as in training."""
    overlay: bool = False
    """Also draw the labels over the images, as NAME.overlay.png."""
    confidence: bool = False
    """Also write the probability of each point's label: NAME.confidence.png of 16 bits, in which 65535 is 1; for volumes
    NIfTI or TIFF of float32, for arrays arrays."""
    instances: tuple[str, ...] = ()
    """Classes whose objects are told apart and counted: NAME.instances.png of 16 bits numbers them, or NIfTI of int32 or
    TIFF; instances.csv has a line for each, with area, centre, box and mean confidence."""
    instances_apart: int = 0
    """Divide objects that touch, by a watershed from middles at least so many points apart; 0: what touches is one."""
    instances_smallest: int = 1
    """Objects of fewer points are left out."""
    tile: int = 512
    """Label images with more than TILE x TILE points in tiles of about so many, so that memory stays bounded."""
    overlap: int = 64
    """Points by which tiles overlap where states cannot be handed from one to the next."""
    batch_size: int = 16
    """Files at a time; large ones are taken singly."""
    shard: str = ""
    """Only a share of the files: 3/16 means those with the numbers 3, 19, 35, ... in their order, so that 16 jobs, from 0/16
    to 15/16, share the work. ndrnn join makes one table of theirs."""
    strict: bool = False
    """Stop at the first file that cannot be used."""
    device: str = "cpu"
    """Where the network runs."""
    force: bool = False
    """Overwrite results that are there already."""
    json: bool = False
    """Print nothing but one JSON object at the end."""

    def __post_init__(self) -> None:
        Shard.of(self.shard)
        for name in ("tile", "batch_size", "instances_smallest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.inputs:
            raise ValueError("INPUT must name at least one image, volume, folder or zip archive, got none")
        for name in ("overlap", "instances_apart"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.format != "jsonl" and self.out is None:
            raise ValueError(f"--format {self.format} needs --out, a folder for the files")


@dataclass(frozen=True)
class Join:
    """One result of what the shards of predict or evaluate have left in a folder: predictions.jsonl and instances.csv, in the
    order of the files, and evaluation.json, of the sums of what each has counted. Outputs that are a file for each input, such as label
    maps and compressed images, need no joining."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The folder that was the shards' --out."""
    force: bool = False
    """Overwrite what was joined before."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Sample:
    """Draw images, volumes or signals from a density model, exactly by its probabilities, point after point."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or weights (.safetensors)."""
    out: Path = Path("samples")
    """Folder for the samples, 0.png, 1.png, ..., or with the ending of their format."""
    n: int = 4
    """Samples."""
    size: tuple[int, ...] = ()
    """Points along each axis of the model, such as 32 64 64 for volumes; by default 64 64 for images, 32 32 32 for
    volumes, 1024 for signals."""
    height: int | None = None
    """Of images, in place of the first number of --size."""
    width: int | None = None
    """Of images, in place of the second number of --size."""
    format: Literal["png", "nii.gz", "nii", "npy"] | None = None
    """By default png for images, nii.gz for volumes, npy for signals and for images of floating-point values."""
    margin: int = 8
    """Points around a sample that are drawn too and cut off, so that it does not begin at noise."""
    seed: int = 0
    """Equal seeds give equal samples."""
    force: bool = False
    """Overwrite results that are there already."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        for name in ("n", "height", "width"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.size and min(self.size) < 1:
            raise ValueError(f"size must be at least 1 along each axis, got {' '.join(map(str, self.size))}")
        if self.size and (self.height or self.width):
            raise ValueError("size and height or width say the same: give one of them")

    def extents(self, axes: int) -> tuple[int, ...]:
        """Points along each axis of a model of so many.

        Raises:
            ValueError: the options are for another number of axes.
        """
        kind = KINDS[axes]
        if self.size:
            if len(self.size) != axes:
                raise ValueError(
                    f"size must have {axes} extent{'s' if axes > 1 else ''} for a model of {kind}, "
                    f"got {len(self.size)}: {' '.join(map(str, self.size))}"
                )
            return self.size
        if axes != 2 and (self.height or self.width):
            raise ValueError(f"height and width are of images, the model is of {kind}: give --size")
        usual = {1: (1024,), 2: (64, 64), 3: (32, 32, 32)}[axes]
        return (self.height or usual[0], self.width or usual[1]) if axes == 2 else usual


@dataclass(frozen=True)
class Inpaint:
    """Fill in the points of an image, a volume or a signal where MASK is not 0, by a density model; all others stay as they
    are."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or weights (.safetensors)."""
    image: Annotated[Path, tyro.conf.Positional]
    """The image, the volume (NIfTI, or a TIFF of slices), or the array (.npy)."""
    mask: Annotated[Path, tyro.conf.Positional]
    """Another of the same size; what is not 0 in it is filled in. For volumes NIfTI or .npy, for signals .npy."""
    out: Path | None = None
    """The filled file, by default inpainted.png, or inpainted.nii.gz, .npy or .tif as the file is."""
    method: Literal["mh", "map"] = "mh"
    """Draw by Metropolis-Hastings, as published, or climb to the most probable."""
    epochs: int = 100
    """Sweeps over the hidden points, or steps of the climb; the time grows with them."""
    chains: int = 1
    """Independent fillings, of which the most probable is kept."""
    around: int | None = None
    """Points around what is hidden that the filling sees, so that time and memory do not grow with the rest; by default
    64, and 16 in volumes."""
    seed: int = 0
    """Equal seeds fill in equal points."""
    force: bool = False
    """Overwrite results that are there already."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if self.around is not None and self.around < 0:
            raise ValueError(f"around must not be negative, got {self.around}")

    def points_around(self, axes: int) -> int:
        """Points around what is hidden on a lattice of so many axes."""
        return (16 if axes == 3 else 64) if self.around is None else self.around


@dataclass(frozen=True)
class Compress:
    """Compress images and volumes without loss: grey, colour, palette, with or without opacity, of 1 to 16 bits. What
    is written is read again and compared before it gets its name. Nothing is ever deleted."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE [FILE ...]")]
    """Images, volumes, arrays (.npy), folders, zip archives."""
    model: str = ""
    """A model that ships with the package, a run's folder, or weights (.safetensors). Decompressing needs it. If not
    given, each image gets the one that ships for its channels, or that for grey ones."""
    out: Path | None = None
    """Folder for the results, where the tree of the given folders is kept; beside the files if not given."""
    force: bool = False
    """Write over files that are there."""
    shard: str = ""
    """Only a share of the files: 3/16 means those with the numbers 3, 19, 35, ... in their order, so that 16 jobs, from 0/16
    to 15/16, share the work."""
    verify: bool = True
    """Decode every result and compare it before it is kept."""
    block: int = 0
    """Edge of the blocks that are coded alone; near 256 for images, 1024 for drawings and 64 for volumes if 0. Larger ones cost memory, save a
    few per thousand, and leave less to work on at the same time."""
    threads: int | None = None
    """Blocks at a time; as many as there are threads if not given."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        Shard.of(self.shard)
        if not self.inputs:
            raise ValueError("FILE must name at least one image, volume, folder or zip archive, got none")
        if self.block < 0:
            raise ValueError(f"block must not be negative, got {self.block}")


@dataclass(frozen=True)
class Decompress:
    """Make again of what compress made files: images as PNG, volumes as NIfTI, arrays as .npy. Nothing is ever deleted."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE [FILE ...]")]
    """Compressed files, or folders of them."""
    model: str = ""
    """The model that they were compressed with: one that ships with the package, a run's folder, or weights. Needed
    unless the file names one that ships."""
    out: Path | None = None
    """Folder for the results, where the tree of the given folders is kept; beside the files if not given."""
    region: str = ""
    """Only this part, such as 0:100,50:150: first and last + 1 row, then column. The rest is not decoded. Signals have one
    such range, volumes three, in the order of their axes."""
    salvage: bool = False
    """Go on where blocks are damaged; their samples become 0, and the status is 1."""
    force: bool = False
    """Write over files that are there."""
    most_samples: int = 1 << 30
    """The largest image that is made."""
    threads: int | None = None
    """Blocks at a time; as many as there are threads if not given."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("FILE must name at least one compressed file or folder, got none")
        if self.region and not re.fullmatch(r"\d+:\d+(,\d+:\d+)*", self.region):
            raise ValueError(f"region must be like 0:100,50:150, got {self.region!r}")


@dataclass(frozen=True)
class Export:
    """Write a trained model as an ONNX file, which runs without PyTorch and without this library. The file says how its
    input is prepared and what its output means: task, classes or alphabet, channels and scaling of values, licence."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or weights (.safetensors)."""
    out: Path = Path("model.onnx")
    """The file to write."""
    license: str = ""
    """Licence of the weights, by its SPDX name such as CC-BY-4.0; stands in the file."""
    force: bool = False
    """Write over a file that is there."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Card:
    """Tell what there is to know of a trained model, as a card in Markdown to put beside its weights: task, network, data,
    figures on held-out samples, licence. Its head is that of the hub of Hugging Face."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or weights (.safetensors)."""
    out: Path | None = None
    """The file to write, README.md for the hub; printed if not given."""
    license: str = ""
    """Licence of the weights, by its SPDX name such as CC-BY-4.0."""
    force: bool = False
    """Write over a file that is there."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class Serve:
    """Show trained models at work on a page in the browser: drop a picture and see labels, classes, texts and where they
    stand, the bits that pixels cost, holes filled, and what the layers remember. Only this machine reaches the page
    unless --host says otherwise; nothing is sent elsewhere, and what is dropped is deleted at the end."""

    models: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Runs' folders, weights (.safetensors), or names of models that come with the package."""
    host: str = "127.0.0.1"
    """Where to listen; 0.0.0.0 lets other machines in, without a password."""
    port: int = 8765
    """The port; 0 takes a free one."""
    open: bool = False
    """Open the page in the browser."""
    max_megabytes: float = 32.0
    """The largest file that is taken, in MB of 1,048,576 bytes."""
    max_megapixels: float = 4.0
    """The largest picture that is taken, in millions of pixels."""
    device: str = "cpu"
    """Where the networks run."""

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("RUN must name at least one run, file of weights or model, got none")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must lie in [0, 65535], got {self.port}")
        for name in ("max_megabytes", "max_megapixels"):
            if not 0 < getattr(self, name) < 1e6:
                raise ValueError(f"{name} must lie between 0 and a million, got {getattr(self, name)}")


@dataclass(frozen=True)
class Bench:
    """Time a layer on this machine, forward and in a training step, by every backend that is available for it."""

    layer: str = "MDLSTM"
    """MDRNN, MDLSTM, StableMDLSTM, LeakyMDLSTM, SpatialLSTM, MDGRU or MDLinearRNN."""
    size: tuple[int, ...] = (64, 64)
    """Points along each axis."""
    batch: int = 4
    """Samples."""
    inputs: int = 1
    """Features of a point."""
    hidden: int = 32
    """Units of each direction."""
    seconds: float = 2.0
    """About how long to measure each figure; the median of the calls counts."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where it runs."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        layers.check(self.layer)
        for name in ("batch", "inputs", "hidden", "seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not self.size or min(self.size) < 1:
            raise ValueError(f"size must name at least one axis, each of at least 1, got {self.size}")
