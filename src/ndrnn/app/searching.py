"""What a search tries: options with some of the values that ``--search`` names."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import exp, log, prod
from typing import Any

from ..saving.config import from_dict, to_dict
from .recipe import Recipe, with_kind

_AROUND = (1 / 9, 1 / 3, 1, 3, 9)
"""Factors of the recipe's learning rate, where nothing is said of what to try."""


def trials(recipe: Recipe, search: Sequence[str], count: int, seed: int) -> list[dict[str, Any]]:
    """The options of each trial: all combinations if there are at most ``count`` and no ranges, else so many drawn.

    Args:
        recipe: has the options that are not searched.
        search: ``OPTION=A,B,C`` or ``OPTION=LOW..HIGH``; of several numbers one value is written ``"8 16"``. Ranges are drawn
            from by their logarithm if both ends are above 0.
        count: at most so many.
        seed: of what is drawn.

    Raises:
        ValueError: an option is not known, a value does not fit, or nothing is searched.
    """
    if not search:
        rate = recipe.config.training.learning_rate
        choices: dict[str, Any] = {"training.learning_rate": [rate * factor for factor in _AROUND]}
    else:
        choices = dict(_choices(text, recipe) for text in search)
    drawn = random.Random(seed)
    lists = [values for values in choices.values() if isinstance(values, list)]
    if len(lists) == len(choices) and prod(map(len, lists)) <= count:
        found = [dict(zip(choices, values, strict=True)) for values in product(*lists)]
    else:
        found = []
        for _ in range(100 * count):
            one = {name: _draw(values, drawn) for name, values in choices.items()}
            if one not in found:
                found.append(one)
            if len(found) == count:
                break
    for one in found:
        with_options(recipe, one)  # to hear of what does not fit before anything is learned
    return found


def with_options(recipe: Recipe, options: Mapping[str, Any]) -> Recipe:
    """The recipe with these options, whose names have dots for tables.

    Raises:
        ValueError: one is not known, or its value does not fit.
    """
    table = to_dict(recipe.config)
    if (kind := options.get("network.kind")) is not None:
        table = with_kind(table, getattr(recipe.config, "network", None), str(kind))
    for name, value in options.items():
        *tables, key = name.split(".")
        place = table
        for part in tables:
            place = place.get(part, {}) if isinstance(place, dict) else {}
        if not isinstance(place, dict) or key not in place or isinstance(place[key], dict):
            raise ValueError(f"search: {name} is no option of the task {recipe.task}")
        place[key] = value
    try:
        config = from_dict(type(recipe.config), table)
    except TypeError as error:
        raise ValueError(f"search: {error}") from error
    return replace(recipe, config=config, expected={})


def _choices(text: str, recipe: Recipe) -> tuple[str, Any]:
    name, equals, values = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    if not equals or not values.strip():
        raise ValueError(
            f"search must be like training.learning-rate=0.001,0.01 or =0.001..0.1, got {text!r}"
        )
    if name == "training.seed":
        raise ValueError(
            "search: training.seed decides on the samples that are held out, and cannot be searched"
        )
    now: Any = to_dict(recipe.config)
    for part in name.split("."):
        now = now.get(part) if isinstance(now, dict) else None
    low, dots, high = values.partition("..")
    if dots:
        ends = _value(low, None), _value(high, None)
        if not all(type(end) in (int, float) for end in ends) or not ends[0] < ends[1]:
            raise ValueError(f"search: a range must be of two numbers, the lower one first, got {values!r}")
        return name, ends
    return name, [_value(value, now) for value in values.split(",")]


def _value(text: str, now: Any) -> Any:
    """What a word says; several of them where the option has several values."""
    text = text.strip()
    if isinstance(now, (list, tuple)):
        return [_value(word, None) for word in text.split()]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _draw(values: Any, drawn: random.Random) -> Any:
    if isinstance(values, list):
        return drawn.choice(values)
    low, high = values
    if isinstance(low, int) and isinstance(high, int):
        return drawn.randint(low, high)
    number = exp(drawn.uniform(log(low), log(high))) if low > 0 else drawn.uniform(low, high)
    return float(f"{number:.3g}")
