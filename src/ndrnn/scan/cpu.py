"""The compiled scan for CPU tensors (stub until the kernel lands)."""

TRANSFORMED = "transformed"


def refusal():
    return "not built"


def refusal_of(cell, x, params):
    return TRANSFORMED
