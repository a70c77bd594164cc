"""Causal neighbourhoods against loops over pixels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ndrnn.density import CausalNeighborhood


def by_loops(nb: CausalNeighborhood, images, observed=None):
    """Inputs and outputs of every pixel whose neighbourhood fits, by the mask itself."""
    rows, columns = nb.mask.shape
    inputs, outputs = [], []
    used = nb.mask | nb.observed
    used[nb.output] = True
    at = used.nonzero().tolist()
    for n, image in enumerate(images):
        height, width, _ = image.shape
        for i in range(height):
            for j in range(width):
                corner = (i - nb.output[0], j - nb.output[1])
                inside = [0 <= corner[0] + a < height and 0 <= corner[1] + b < width for a, b in at]
                if not all(inside):
                    continue
                row = []
                for mask, source in (
                    (nb.mask, image),
                    (nb.observed, None if observed is None else observed[n]),
                ):
                    for a in range(rows):
                        for b in range(columns):
                            if mask[a, b]:
                                row += source[corner[0] + a, corner[1] + b].tolist()
                inputs.append(row)
                outputs.append(image[i, j].tolist())
    return torch.tensor(inputs, dtype=images.dtype), torch.tensor(outputs, dtype=images.dtype)


def numbered(*shape: int):
    """Images whose every value is different."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float64).view(shape)


@pytest.mark.parametrize(("width", "size"), [(3, 4), (5, 12), (7, 24), (9, 40)])
def test_windows_have_the_published_sizes(width, size):
    nb = CausalNeighborhood.window(width)
    assert nb.size == size
    assert nb.num_inputs(channels=3) == 3 * size
    assert nb.mask.shape == (width // 2 + 1, width)
    assert nb.slope == width // 2 + 1
    assert nb.grid(64, 64) == (64 - width // 2, 64 - width + 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width", [3, 5])
def test_windows_against_loops(width, channels):
    nb = CausalNeighborhood.window(width)
    images = numbered(2, 7, 6, channels)
    inputs, outputs = nb.extract(images)
    expected_inputs, expected_outputs = by_loops(nb, images)
    assert torch.equal(inputs, expected_inputs)
    assert torch.equal(outputs, expected_outputs)


def test_observed_channels_are_seen_in_the_whole_square():
    nb = CausalNeighborhood.window(3, observed=True)
    images, observed = numbered(2, 5, 6, 2), -numbered(2, 5, 6, 1)
    assert (nb.size, nb.observed_size, nb.num_inputs(2, 1)) == (4, 9, 17)
    inputs, outputs = nb.extract(images, observed)
    expected = by_loops(nb, images, observed)
    assert torch.equal(inputs, expected[0])
    assert torch.equal(outputs, expected[1])


@st.composite
def neighborhoods(draw):
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    output = (draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1)))
    mask = [[(i, j) < output and draw(st.booleans()) for j in range(columns)] for i in range(rows)]
    return CausalNeighborhood(mask, output)


@given(neighborhoods(), st.integers(3, 6), st.integers(5, 7))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_mask_against_loops(nb, height, width):
    images = numbered(1, height, width, 2)
    inputs, outputs = nb.extract(images)
    expected_inputs, expected_outputs = by_loops(nb, images)
    assert torch.equal(inputs, expected_inputs.view(inputs.shape))
    assert torch.equal(outputs, expected_outputs)


@given(neighborhoods(), st.integers(1, 6), st.integers(1, 7))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_wavefronts_draw_every_pixel_once_and_after_its_neighbours(nb, rows, columns):
    step_of = {}
    steps = 0
    for step, (i, j) in enumerate(nb.wavefronts(rows, columns)):
        steps += 1
        for pixel in zip(i.tolist(), j.tolist(), strict=True):
            assert pixel not in step_of
            step_of[pixel] = step
    assert len(step_of) == rows * columns
    assert steps <= columns + nb.slope * (rows - 1)
    for (i, j), step in step_of.items():
        for di, dj in nb.offsets:
            before = step_of.get((i + di, j + dj))
            assert before is None or before < step


def test_the_wavefront_order_is_that_of_the_window():
    nb = CausalNeighborhood.window(5)
    for step, (i, j) in enumerate(nb.wavefronts(4, 10)):
        assert torch.equal(j + 3 * i, torch.full_like(i, step))


def test_random_places_are_places_of_the_images():
    nb = CausalNeighborhood.window(5, observed=True)
    images, observed = numbered(3, 8, 9, 2), -numbered(3, 8, 9, 1)
    inputs, outputs = nb.sample(images, 40, observed=observed, generator=torch.Generator().manual_seed(0))
    every_input, every_output = nb.extract(images, observed)
    assert inputs.shape == (40, nb.num_inputs(2, 1))
    assert len(outputs[:, 0].unique()) == 40
    row = {float(y): x for x, y in zip(every_input, every_output[:, 0], strict=True)}
    for x, y in zip(inputs, outputs[:, 0], strict=True):
        assert torch.equal(x, row[float(y)])
    everything = nb.sample(images, 10_000, observed=observed)
    assert torch.equal(everything[0], every_input)


def test_random_places_are_uniform():
    nb = CausalNeighborhood([[1, 0]], (0, 1))
    images = numbered(1, 10, 11, 1)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([nb.sample(images, 10, generator=generator)[1] for _ in range(1000)])
    counts = drawn.unique(return_counts=True)[1]
    assert len(counts) == 100
    # 100 places, 10,000 draws: the statistic has 99 degrees of freedom
    assert float(((counts - 100) ** 2 / 100).sum()) < 150


def test_dtype_and_gradients_pass_through():
    nb = CausalNeighborhood.window(3)
    images = torch.rand(1, 4, 5, requires_grad=True)
    inputs, outputs = nb.extract(images)
    assert inputs.dtype == torch.float32
    (inputs.sum() + outputs.sum()).backward()
    # a pixel counts once for every neighbourhood it is in, and once as an output
    expected = torch.zeros(4, 5)
    for i in range(1, 4):
        for j in range(1, 4):
            for di, dj in [*nb.offsets, (0, 0)]:
                expected[i + di, j + dj] += 1
    assert torch.equal(images.grad[0], expected)


def test_repr_tells_the_shape():
    assert repr(CausalNeighborhood.window(5)) == "CausalNeighborhood(3x5, size=12, output=(2, 2))"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[[[1, 0]]]],), r"mask must have one, two or three axes, got shape \(1, 1, 1, 2\)"),
        (([[1, 0]], (1, 0)), r"output must lie inside the mask of shape \(1, 2\), got \(1, 0\)"),
        (([[1, 1]], (0, 1)), r"only pixels before the output \(0, 1\) .* got offsets \[\(0, 0\)\]"),
        (([[1, 0], [0, 1]], (1, 0)), r"got offsets \[\(0, 1\)\]"),
        (([[1, 0]], (0, 1), [[1]]), r"observed must have the mask's shape \(1, 2\), got \(1, 1\)"),
    ],
)
def test_bad_masks(arguments, message):
    with pytest.raises(ValueError, match=message):
        CausalNeighborhood(*arguments)


@pytest.mark.parametrize("width", [1, 4, -3])
def test_bad_widths(width):
    with pytest.raises(ValueError, match=f"width must be an odd number of at least 3, got {width}"):
        CausalNeighborhood.window(width)


def test_bad_images():
    nb = CausalNeighborhood.window(5)
    with pytest.raises(TypeError, match=r"images must be a torch.Tensor, got list"):
        nb.extract([[0.0]])
    with pytest.raises(TypeError, match=r"floating-point values, got torch.uint8; .*dequantize"):
        nb.extract(torch.zeros(1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"shape \(N, H, W\) or \(N, H, W, C\), got \(8, 8\)"):
        nb.extract(torch.zeros(8, 8))
    with pytest.raises(ValueError, match="at least one pixel"):
        nb.extract(torch.zeros(0, 8, 8))
    with pytest.raises(ValueError, match="at least 3 x 5 pixels for this neighborhood, got 8 x 4"):
        nb.extract(torch.zeros(1, 8, 4))
    seeing = CausalNeighborhood.window(5, observed=True)
    for call in (
        lambda *a: seeing.extract(*a),
        lambda x, *a: seeing.sample(x, 3, observed=a[0] if a else None),
    ):
        with pytest.raises(ValueError, match="observed must be given"):
            call(torch.zeros(1, 8, 8))
        with pytest.raises(ValueError, match=r"images' shape \(1, 8, 8\), got \(1, 8, 9\)"):
            call(torch.zeros(1, 8, 8), torch.zeros(1, 8, 9))
