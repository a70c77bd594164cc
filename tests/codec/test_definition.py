"""The compiled codec against the definition, to the last bit, on every instruction set of this machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ndrnn.density.use.codec import kernels
from ndrnn.density.use.codec.network import network_of

from . import exact
from .conftest import make_model, make_ride, picture
from .decoder import transcode

SPECIAL = [0.0, 1e-45, 1.2e-38, 1e-7, 0.5, 1.0, 12.9999, 13.0, 86.9, 88.0, 1e10, 3e38]


def test_functions_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([SPECIAL, np.negative(SPECIAL), rng.normal(size=150), 8 * rng.normal(size=150)])
    x = x.astype(np.float32)
    with np.errstate(over="ignore"):
        wanted = np.array(
            [
                [
                    exact.exponential(v),
                    exact.logistic(v),
                    exact.tangent(v),
                    exact.normal_tail(abs(v)),
                    exact.fma(v, v, np.float32(0.333333343)) if abs(v) < 1e19 else np.inf,
                ]
                for v in x
            ],
            np.float32,
        )
    for isa in kernels.instruction_sets():
        assert np.array_equal(kernels.functions(x, isa).view(np.int32), wanted.view(np.int32)), isa


def test_functions_are_what_their_names_say() -> None:
    x = np.linspace(-12, 12, 4001).astype(np.float32)
    double = torch.from_numpy(x).double()
    wanted = [
        double.exp(),
        double.sigmoid(),
        double.tanh(),
        0.5 * torch.special.erfc(double.abs() / 2**0.5),
        double * double + 1 / 3,
    ]
    got = torch.from_numpy(kernels.functions(x)).double()
    for column, want in enumerate(wanted):
        error = ((got[:, column] - want) / want).abs()
        assert float(error[want != 0].max()) < 5e-6, column


def test_a_fused_product_is_rounded_once() -> None:
    """Where rounding the product first, or the sum in binary64 before binary32, gives another number."""
    rng = np.random.default_rng(1)
    x = (1 + rng.integers(0, 1 << 23, 4000) * 2.0**-23).astype(np.float32) * np.float32(2.0) ** rng.integers(
        -12, 2, 4000
    )
    x = x.astype(np.float32)
    wanted = np.array([exact.fma(v, v, np.float32(0.333333343)) for v in x])
    twice = (x * x) + np.float32(0.333333343)
    assert (twice != wanted).any()
    for isa in kernels.instruction_sets():
        assert np.array_equal(kernels.functions(x, isa)[:, 4], wanted), isa


@pytest.mark.parametrize("mixing", [False, True], ids=["plain", "mixed"])
@pytest.mark.parametrize("cell", ["leaky", "stable", "spatial", "gru"])
def test_bytes_are_those_of_the_definition(cell: str, mixing: bool) -> None:
    ride = make_ride(hidden=3, layers=2 if cell == "leaky" else 1, cell=cell)
    values = picture((5, 7), 3).astype(np.uint16)
    letters = np.arange(values.min(), values.max() + 1).astype(np.uint16)
    options = {"bits": 8, "border": 120, "mixing": mixing}
    wanted = transcode(ride, values.shape, letters.tolist(), values=values, **options)
    none = np.zeros((0, *values.shape), np.uint16)
    network = network_of(ride)
    for isa in kernels.instruction_sets():
        data = kernels.encode(network, values, none, None, letters, room=500, isa=isa, **options)
        assert data == wanted, isa
        back = kernels.decode(network, data, values.shape, none, None, letters, isa=isa, **options)
        assert np.array_equal(back, values)
    assert np.array_equal(transcode(ride, values.shape, letters.tolist(), data=wanted, **options), values)


@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
def test_four_layers(residual: bool) -> None:
    ride = make_ride(hidden=3, layers=4, cell="gru", residual=residual)
    values = picture((6, 5), 2).astype(np.uint16)
    letters, none = np.arange(256).astype(np.uint16), np.zeros((0, 6, 5), np.uint16)
    options = {"bits": 8, "border": 7, "mixing": False}
    wanted = transcode(ride, values.shape, letters.tolist(), values=values, **options)
    for isa in kernels.instruction_sets():
        assert (
            kernels.encode(network_of(ride), values, none, None, letters, room=500, isa=isa, **options)
            == wanted
        )


@pytest.mark.parametrize("cell", ["leaky", "stable", "spatial"])
def test_layers_that_add_to_what_they_are_given(cell: str) -> None:
    """More units than a vector has numbers, and scales of both signs, one of them 0.

    The first two units are one but for their scales, and the means are 20,000 times their difference: the last bit of
    what is handed on shows.
    """
    ride = make_ride(hidden=17, layers=2, cell=cell, residual=True)
    with torch.no_grad():
        ride.scales[0].copy_(torch.linspace(-2, 2, 17))
        ride.scales[0][1] = -1.9999
        for layer in ride.layers:
            for weights in layer.weight_ih[0], layer.weight_hh[0, 0], layer.weight_hh[0, 1], layer.bias[0]:
                weights[1::17] = weights[::17].clone()
        ride.mcgsm.predictors[..., :2] += torch.tensor([2e4, -2e4])
    values = picture((4, 6), 3).astype(np.uint16)
    letters, none = np.unique(values), np.zeros((0, 4, 6), np.uint16)
    options = {"bits": 8, "border": 120, "mixing": False}
    wanted = transcode(ride, values.shape, letters.tolist(), values=values, **options)
    network = network_of(ride)
    for isa in kernels.instruction_sets():
        data = kernels.encode(network, values, none, None, letters, room=500, isa=isa, **options)
        assert data == wanted, isa
        back = kernels.decode(network, wanted, values.shape, none, None, letters, isa=isa, **options)
        assert np.array_equal(back, values)


def test_planes_that_are_seen_and_gaps_in_the_values() -> None:
    ride = make_ride(hidden=2, seen=2, cell="leaky")
    with torch.no_grad():
        ride.mcgsm.linear.normal_()
    first, second = (picture((4, 6), seed).astype(np.uint16) for seed in (1, 2))
    values = (picture((4, 6), 3).astype(np.uint16) // 3) * 3 + 1
    letters = np.unique(values)
    options = {"bits": 9, "border": 300, "mixing": True}
    wanted = transcode(
        ride,
        values.shape,
        letters.tolist(),
        values=values,
        observed=[first, second],
        before=second,
        **options,
    )
    seen = np.stack([first, second])
    for isa in kernels.instruction_sets():
        data = kernels.encode(network_of(ride), values, seen, second, letters, room=500, isa=isa, **options)
        assert data == wanted, isa


@pytest.mark.parametrize("cell", ["leaky", "stable", "spatial", "gru"])
@pytest.mark.parametrize("shape", [(40,), (3, 4, 5)], ids=["signal", "volume"])
def test_signals_and_volumes(shape: tuple[int, ...], cell: str) -> None:
    model = make_model(len(shape), cell)
    values = picture(shape, 3).astype(np.uint16)
    letters = np.arange(values.min(), values.max() + 1).astype(np.uint16)
    options = {"bits": 8, "border": 120, "mixing": True}
    wanted = transcode(model, shape, letters.tolist(), values=values, **options)
    network, none = network_of(model), np.zeros((0, *shape), np.uint16)
    for isa in kernels.instruction_sets():
        data = kernels.encode(network, values, none, None, letters, room=500, isa=isa, **options)
        assert data == wanted, isa
        assert np.array_equal(
            kernels.decode(network, data, shape, none, None, letters, isa=isa, **options), values
        )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 16), st.booleans(), st.data())
def test_shapes_come_back(shape: list[int], bits: int, mixing: bool, data: st.DataObject) -> None:
    values = np.random.default_rng(sum(shape)).integers(0, 1 << bits, shape).astype(np.uint16)
    letters = np.unique(values)
    network = network_of(make_model(len(shape), data.draw(st.sampled_from(["leaky", "gru"]))))
    options = {"bits": bits, "border": 0, "mixing": mixing}
    none = np.zeros((0, *shape), np.uint16)
    coded = {
        isa: kernels.encode(network, values, none, None, letters, room=10**5, isa=isa, **options)
        for isa in kernels.instruction_sets()
    }
    assert len(set(coded.values())) == 1
    for isa, stream in coded.items():
        back = kernels.decode(network, stream, shape, none, None, letters, isa=isa, **options)
        assert np.array_equal(back, values)


def test_calls_that_do_not_fit_are_refused() -> None:
    network, values = network_of(make_ride()), picture((3, 4)).astype(np.uint16)
    letters, none = np.unique(values), np.zeros((0, 3, 4), np.uint16)
    options = {"bits": 8, "border": 0, "mixing": True, "room": 100}
    with pytest.raises(ValueError, match="2 axes"):
        kernels.encode(network, values.reshape(-1), none, None, letters, **options)
    with pytest.raises(ValueError, match="observed must have shape"):
        kernels.encode(network, values, none[:, 1:], None, letters, **options)
    assert kernels.encode(network, values, none, None, letters, **{**options, "room": 2}) is None


def test_without_its_compiled_code_there_is_no_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.kernels, "refusal", "not built")
    with pytest.raises(ImportError, match="the codec is compiled code: not built"):
        kernels.instruction_sets()
    monkeypatch.undo()
    monkeypatch.setattr(type(kernels.kernels), "library", object())
    with pytest.raises(ImportError, match="of another version"):
        kernels.instruction_sets()
