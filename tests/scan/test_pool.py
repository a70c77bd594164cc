"""Memory that the compiled scans keep for their next call."""

import pytest
import torch

import ndrnn

pytestmark = pytest.mark.kernels

MEBI = 2**20


def layer(hidden: int) -> ndrnn.MDLSTM:
    torch.manual_seed(0)
    return ndrnn.MDLSTM(1, hidden, directions=[(1, 1)])


def draw(extent: int) -> torch.Tensor:
    return torch.randn(1, extent, extent, 1, generator=torch.Generator().manual_seed(1))


def of_bytes(bytes_: int) -> torch.Tensor:
    """An output of so many bytes, at 64 units a point: 256 bytes each, in rows of 64 points."""
    with torch.no_grad(), ndrnn.backend("cpu"):
        return layer(64)(torch.zeros(1, bytes_ // (64 * 256), 64, 1))


def test_what_is_free_waits_and_is_released() -> None:
    y = of_bytes(8 * MEBI)
    ndrnn.release_memory()
    assert ndrnn.release_memory() == 0, "what is in use is not released"
    del y
    assert ndrnn.release_memory() >= 8 * MEBI
    assert ndrnn.release_memory() == 0


def test_the_next_call_takes_what_waits() -> None:
    ndrnn.release_memory()
    y = of_bytes(8 * MEBI)
    place = y.data_ptr()
    again = of_bytes(8 * MEBI)
    assert again.data_ptr() != place, "what is in use is not given away"
    del y, again
    places = {of_bytes(8 * MEBI).data_ptr() for _ in range(5)}
    assert len(places) == 1


def test_a_view_holds_the_memory() -> None:
    with torch.no_grad(), ndrnn.backend("cpu"):
        one = layer(64)
        part = one(draw(160))[:, 3:5]
        before = part.clone()
        for _ in range(3):
            one(1 + draw(160))
    assert torch.equal(part, before)


def test_what_waits_is_never_more_than_was_in_use() -> None:
    ndrnn.release_memory()
    for mebibytes in (8, 32, 12, 20, 40, 16):
        of_bytes(mebibytes * MEBI)
    # the largest output and the work space beside it, with the rounding of both
    assert ndrnn.release_memory() <= 48 * MEBI


def test_a_block_that_nobody_wants_is_released() -> None:
    ndrnn.release_memory()
    of_bytes(64 * MEBI)
    small = [of_bytes(2 * MEBI) for _ in range(8)]
    for _ in range(300):
        small[0] = of_bytes(2 * MEBI)
    assert ndrnn.release_memory() < 64 * MEBI


def test_gradients_do_not_depend_on_what_the_memory_held() -> None:
    one, x = layer(64), draw(100)

    def gradients() -> list[torch.Tensor]:
        one.zero_grad()
        with ndrnn.backend("cpu"):
            one(x).square().sum().backward()
        return [parameter.grad.clone() for parameter in one.parameters() if parameter.grad is not None]

    ndrnn.release_memory()
    fresh = gradients()
    with torch.no_grad(), ndrnn.backend("cpu"):
        one(torch.full_like(x, float("nan")))
    for value, expected in zip(gradients(), fresh, strict=True):
        assert torch.equal(value, expected)


def test_outputs_can_be_shared_between_processes() -> None:
    y = of_bytes(2 * MEBI)
    before = y.clone()
    assert torch.equal(y.share_memory_(), before)
