"""Whether a compiled kernel has neighbours side by side, where it takes them two at a time without looking.

The layout of a tile is the compiler's choice, and so to be read from what it made; see ``direct.py``.
"""

from __future__ import annotations

import re
from typing import Any

_right: set[str] = set()


def check(compiled: Any) -> None:
    """Once a kernel, right after its first launch.

    Args:
        compiled: what the launch gave; None under the interpreter.

    Raises:
        RuntimeError: what it computes is wrong, because the compiler chose a layout that the kernel does not expect.
    """
    if compiled is None or compiled.hash in _right:
        return
    wrong = unexpected(compiled.asm["ttgir"])
    if wrong:
        raise RuntimeError(
            f"this version of Triton lays tiles out as {wrong[0]}, which the kernel does not expect; "
            "run it under NDRNN_TRITON_SWEEP=strips"
        )
    _right.add(compiled.hash)


def unexpected(code: str) -> list[str]:
    """Layouts in which a number and the next of its row are not a thread's own, one after the other."""
    layouts = dict(re.findall(r"^(#\w+) = (#ttg\..*)$", code, re.MULTILINE))
    used = re.findall(r"elementwise_inline_asm .*packed_element = 2 .*-> tensor<\d+x\d+x\w+, ([^>]+)>", code)
    return sorted({layouts.get(name, name) for name in used if not _paired(layouts.get(name, name))})


def _paired(layout: str) -> bool:
    if layout.startswith("#ttg.nvidia_mma<"):
        return True
    blocked = re.search(r"^#ttg\.blocked<.*sizePerThread = \[\d+, (\d+)\].*order = \[1, 0\]", layout)
    return blocked is not None and int(blocked[1]) % 2 == 0
