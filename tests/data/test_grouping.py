"""Batches of nearly equal sizes."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ndrnn.data.pipeline.grouping import Grouped, group_by_size, padding

DATA = Path(os.environ.get("NDRNN_DATA") or Path(__file__).parents[3] / "shared" / "data")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_padding_by_hand():
    assert padding(torch.tensor([[2, 3], [4, 2]])) == pytest.approx(1 - 14 / 24)
    assert padding(torch.tensor([[2, 3], [2, 3]])) == 0


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 900)), min_size=1, max_size=80),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.05, 0.2]),
    st.one_of(st.none(), st.integers(0, 9)),
)
@settings(max_examples=60, deadline=None)
def test_every_sample_once_and_little_padding(extents, size, limit, seed):
    batches = group_by_size(
        extents, size, generator=None if seed is None else seeded(seed), max_padding=limit, pool=3
    )
    assert sorted(index for batch in batches for index in batch) == list(range(len(extents)))
    sizes = torch.tensor(extents)
    for batch in batches:
        assert 1 <= len(batch) <= size
        assert padding(sizes[batch]) <= limit + 1e-12


def test_equal_samples_fill_their_batches():
    batches = group_by_size([(5, 5)] * 23, 4, generator=seeded(0))
    assert sorted(map(len, batches)) == [3, 4, 4, 4, 4, 4]


def test_company_changes_with_the_seed_and_only_with_it():
    extents = [(48, 100 + index) for index in range(40)]
    first, again, other = (group_by_size(extents, 4, generator=seeded(seed), pool=2) for seed in (0, 0, 1))
    assert first == again
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in other}


def test_passes_have_equally_many_batches_and_lose_no_sample():
    extents = [(10, width) for width in torch.randint(5, 400, (50,), generator=seeded(3)).tolist()]
    make = Grouped(extents, seed=5, max_padding=0.1)
    passes = [make(number, 4) for number in range(8)]
    assert len({len(batches) for batches in passes}) == 1
    # put one after another the passes are whole groupings, each with every sample once
    stream = [index for batches in passes for batch in batches for index in batch]
    for start in range(0, len(stream) - 50, 50):
        assert sorted(stream[start : start + 50]) == list(range(50))
    fresh = Grouped(extents, seed=5, max_padding=0.1)
    assert fresh(6, 4) == passes[6]
    assert Grouped(extents, seed=6, max_padding=0.1)(0, 4) != passes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 2, "pool": 0}, "pool must be at least 1, got 0"),
        ({"batch_size": 2, "max_padding": 1.0}, r"max_padding must lie in \[0, 1\), got 1.0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        group_by_size([(1, 1)], **options)


@pytest.mark.parametrize("batch_size", [4, 8, 16])
def test_padding_on_real_line_widths(batch_size):
    table = DATA / "handwriting_fr" / "lines_h48.tsv"
    if not table.exists():
        pytest.skip(f"no {table}")
    with table.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    widths = torch.tensor([[48, int(row["width"])] for row in rows if row["split"] == "train"])
    assert len(widths) > 1000
    batches = group_by_size(widths.tolist(), batch_size, generator=seeded(0))
    assert max(padding(widths[batch]) for batch in batches) <= 0.2
    padded = sum(len(batch) * int(widths[batch].amax(0).prod()) for batch in batches)
    assert 1 - int(widths.prod(1).sum()) / padded < 0.05
    # grouping must not pay for it with many small batches
    assert len(batches) < 1.15 * len(widths) / batch_size
