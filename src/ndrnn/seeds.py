"""One seed for random numbers from several numbers."""

from __future__ import annotations


def step_seed(*numbers: int) -> int:
    """A seed for random numbers that belong to these numbers, such as a seed, a step and a process."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state ^ (number & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
