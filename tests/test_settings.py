"""Configurations as plain dictionaries, strictly read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from ndrnn.saving.config import from_dict, to_dict


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Outer:
    name: str
    kind: Literal["a", "b"] = "a"
    limit: float | None = None
    on: bool = False
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name must not be empty")


def test_there_and_back_through_json():
    settings = Outer("x", "b", 3.0, True, Inner(2.0, (4,)))
    assert from_dict(Outer, json.loads(json.dumps(to_dict(settings)))) == settings
    assert from_dict(Outer, {"name": "x"}) == Outer("x")


def test_whole_numbers_serve_as_reals():
    found = from_dict(Outer, {"name": "x", "limit": 3, "inner": {"rate": 1}})
    assert isinstance(found.limit, float)
    assert isinstance(found.inner.rate, float)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ({"name": "x", "limt": 1}, ValueError, r"unknown key 'limt'; did you mean 'limit'\?"),
        (
            {"name": "x", "inner": {"sise": 1}},
            ValueError,
            r"unknown key 'inner.sise'; did you mean 'sizes'\?",
        ),
        ({"name": "x", "zzz": 1}, ValueError, "unknown key 'zzz'; known are inner, kind, limit, name, on"),
        ({}, ValueError, "Outer: .*'name'"),
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"name": 3}, TypeError, "name must be of type str, got 3"),
        ({"name": "x", "kind": "c"}, ValueError, "kind must be one of 'a', 'b', got 'c'"),
        ({"name": "x", "on": 1}, TypeError, "on must be of type bool, got 1"),
        ({"name": "x", "limit": True}, TypeError, "limit must be of type float, got True"),
        ({"name": "x", "inner": 3}, TypeError, "inner must be a table, got int"),
        ({"name": "x", "inner": {"sizes": 3}}, TypeError, "inner.sizes must be a list, got int"),
        (
            {"name": "x", "inner": {"sizes": [1, "2"]}},
            TypeError,
            r"inner.sizes\[1\] must be of type int, got '2'",
        ),
    ],
)
def test_what_does_not_fit_is_named(values, kind, message):
    with pytest.raises(kind, match=message):
        from_dict(Outer, values)
