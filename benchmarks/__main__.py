"""``python -m benchmarks``: the conformance tests, then the tables."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ndrnn.saving.atomic import replacing

from . import (
    builds,
    codec_speed,
    conformance,
    density,
    launch,
    linear,
    machine,
    memory,
    onnx_runtime,
    products,
    recompute,
    ride,
    scaling,
    speed,
)
from .measure import CLOCKS, Effort
from .peers import COMPILED, KERAS, LOOP, TORCH_LSTM, WAVEFRONT, Peer
from .table import Table, report, to_json
from .workloads import CELLS, EXPORTED, LINEAR, MAIN, OTHERS, RECOMPUTED, SEQUENCES, THREADS, TINY, Workload

Progress = Callable[[str], None]


class Named(Protocol):
    """What is measured: a :class:`Workload` of the scan, or something that a density model does."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Section:
    """A part of the benchmark: its workloads, and how the chosen ones become tables."""

    name: str
    workloads: tuple[Named, ...]
    tables: Callable[[Any, Effort, Progress], Iterable[Table]]


def _speed(title: str, *peers: Peer) -> Callable[[Any, Effort, Progress], Iterable[Table]]:
    def tables(*given: Any) -> Iterator[Table]:
        yield speed.share_table(title, *given)
        yield speed.peer_table(title, peers, *given)

    return tables


SECTIONS = (
    Section("products", (TINY,), lambda *given: [products.table(*given)]),
    Section("main", MAIN, _speed("MDLSTM, four directions, one thread", WAVEFRONT, LOOP, KERAS)),
    Section("cells", CELLS, _speed("The other cells at equal gate count, one thread", WAVEFRONT)),
    Section("others", OTHERS, _speed("Three axes, float64, one direction; one thread", WAVEFRONT)),
    Section("sequences", SEQUENCES, _speed("Sequences, n = 1", TORCH_LSTM, WAVEFRONT)),
    Section("threads", THREADS, lambda *given: [speed.thread_table(*given)]),
    Section("linear", LINEAR, linear.tables),
    Section("launch", (TINY,), lambda chosen, *given: [launch.table(chosen[0], *given)]),
    Section("memory", (*MAIN, OTHERS[0]), lambda *given: [memory.table(*given)]),
    Section("checkpoint", RECOMPUTED, lambda *given: [recompute.table(*given)]),
    Section("builds", (MAIN[1], MAIN[2]), lambda *given: [builds.table(*given)]),
    Section("scaling", scaling.WORKLOADS, scaling.tables),
    Section("likelihood", density.LIKELIHOODS, lambda *given: [density.table(*given)]),
    Section("training", ride.STEPS, lambda *given: [ride.training(*given)]),
    Section("sampling", ride.DRAWINGS, lambda *given: [ride.sampling(*given)]),
    Section("onnx", EXPORTED, lambda *given: [onnx_runtime.table(*given)]),
    Section("codec", codec_speed.CODINGS, lambda *given: [codec_speed.table(*given)]),
    Section("compiled", MAIN, lambda *given: [speed.peer_table("MDLSTM", (COMPILED,), *given)]),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast the scans are.")
    parser.add_argument(
        "--only",
        metavar="TEXT",
        nargs="+",
        default=[""],
        help='rows whose "section: workload" contains one of these',
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds; figures are rough")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: leave out what other processes take"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep the tables here too")
    parser.add_argument("--list", action="store_true", help="print what there is to measure, and stop")
    options = parser.parse_args(arguments)
    chosen = [
        (
            section,
            tuple(
                w
                for w in section.workloads
                if any(text in f"{section.name}: {w.name}" for text in options.only)
            ),
        )
        for section in SECTIONS
    ]
    chosen = [(section, workloads) for section, workloads in chosen if workloads]
    if options.list or not chosen:
        for section in SECTIONS:
            print("\n".join(f"{section.name}: {workload.name}" for workload in section.workloads))
        return 0 if options.list else 2
    torch.set_num_threads(1)
    started = time.monotonic()

    def progress(what: str) -> None:
        print(f"[{time.monotonic() - started:5.0f} s] {what}", file=sys.stderr, flush=True)

    progress("conformance")
    wrong = conformance.failures(w for _, workloads in chosen for w in workloads if isinstance(w, Workload))
    if wrong:
        print("Nothing is measured: these disagree with the reference.", *wrong, sep="\n", file=sys.stderr)
        return 1
    effort = Effort.quick(options.clock) if options.quick else Effort(clock=options.clock)
    described, tables = machine.describe(), list[Table]()
    described["clock"] = options.clock
    try:
        for section, workloads in chosen:
            for table in section.tables(workloads, effort, progress):
                tables.append(table)  # one by one: what is finished outlives an interruption
    except KeyboardInterrupt:
        described["interrupted"] = "yes, sections are missing"
    finally:
        print(report(described, tables), end="")
        if options.json:
            with replacing(options.json) as part:
                part.write_text(to_json(described, tables))
    return 130 if "interrupted" in described else 0


if __name__ == "__main__":
    sys.exit(main())
