"""Random configurations of every cell against the float64 reference, values, states and gradients: a thousand in all, and
thousands among the slow tests."""

from math import prod

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from ndrnn.inspect.conformance import assert_conforms
from ndrnn.lattice import all_directions

EXTENTS = (0, 1, 2, 3, 5, 7)
MOST_POINTS = 12
HIDDEN = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17)  # around the widths of vector registers
PER_CELL = (100, 230)  # times eleven cells


@st.composite
def lattices(draw):
    ndim = draw(st.integers(1, 4))
    lattice = []
    for _ in range(ndim):
        fitting = [extent for extent in EXTENTS if prod(lattice) * extent <= MOST_POINTS]
        lattice.append(draw(st.sampled_from(fitting)))
    return tuple(draw(st.permutations(lattice)))


@st.composite
def problems(draw):
    lattice = draw(lattices())
    ndim = len(lattice)
    corners = all_directions(ndim)
    batch = draw(st.sampled_from((0, 1, 1, 2, 2, 3)))
    sizes = None
    if draw(st.booleans()):
        extents = st.tuples(*(st.integers(0, extent) for extent in lattice))
        sizes = draw(st.lists(extents, min_size=batch, max_size=batch))
    return {
        "lattice": lattice,
        "directions": draw(st.lists(st.sampled_from(corners), min_size=1, max_size=2, unique=True)),
        "batch": batch,
        "sizes": sizes,
        "inputs": draw(st.sampled_from((1, 2, 3, 5))),
        "hidden": draw(st.sampled_from(HIDDEN)),
        "merge": draw(st.sampled_from(("concat", "sum", "mean"))),
        "bias": draw(st.booleans()),
        "dtype": draw(st.sampled_from((torch.float64, torch.float64, torch.float32))),
        "with_state": draw(st.booleans()),
        "layout": draw(st.sampled_from(sorted(LAYOUTS))),
        "scale": draw(st.sampled_from((0.3, 1.0))),
        "seed": draw(st.integers(0, 2**16)),
    }


def channels_first(values):
    return values.movedim(-1, 1).contiguous().movedim(1, -1)


def axes_reversed(values):
    dims = list(range(values.dim()))[::-1]
    return values.permute(dims).contiguous().permute(dims)


def every_other(values):
    wide = values.new_full((*values.shape[:-1], 2 * values.shape[-1] + 1), float("nan"))
    wide[..., 1::2] = values
    return wide[..., 1::2]


def broadcast(values):
    return values[..., :1].expand_as(values)


LAYOUTS = {
    "contiguous": lambda values: values,
    "channels first": channels_first,
    "axes reversed": axes_reversed,
    "every other element": every_other,
    "broadcast": broadcast,
}


def check(variant, backends, p):
    ndim = len(p["lattice"])
    options = {name: p[name] for name in ("directions", "merge", "bias", "dtype", "seed", "scale")}
    layer = variant(p["inputs"], p["hidden"], ndim, **options)
    generator = torch.Generator().manual_seed(p["seed"])

    def normal(*shape):
        return LAYOUTS[p["layout"]](torch.randn(shape, generator=generator, dtype=p["dtype"]))

    x = normal(p["batch"], *p["lattice"], p["inputs"])
    sizes = None
    if p["sizes"] is not None:
        sizes = torch.tensor(p["sizes"], dtype=torch.int64).reshape(p["batch"], ndim)
    state = None
    if p["with_state"]:

        def faces():
            return tuple(
                normal(
                    len(layer.directions), p["batch"], *p["lattice"][:k], *p["lattice"][k + 1 :], p["hidden"]
                )
                for k in range(ndim)
            )

        state = (faces(), faces()) if layer.cell.memory else faces()
    assert_conforms(layer, x, sizes, state, backends=backends)


@pytest.mark.parametrize("count", [PER_CELL[0], pytest.param(PER_CELL[1], marks=pytest.mark.slow)])
def test_random_configurations(variant, backends, count):
    @settings(max_examples=count)
    @given(problems())
    def conforms(problem):
        check(variant, backends, problem)

    conforms()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_errs_at_most_twice_as_much_as_plain_torch(variant, dtype):
    @settings(max_examples=15)
    @given(problems())
    def conforms(problem):
        check(variant, ["wavefront"], problem | {"dtype": dtype})

    conforms()


def test_longer_paths(variant, backends, normal):
    """Errors of rounding must not grow into errors of substance: one lattice longer than hypothesis draws."""
    for dtype in (torch.float32, torch.float64):
        layer = variant(3, 5, 2, directions=[(1, -1), (-1, 1)], dtype=dtype, scale=0.4)
        sizes = torch.tensor([[11, 13]])
        assert_conforms(layer, normal(1, 11, 13, 3, dtype=dtype), sizes, backends=backends)
