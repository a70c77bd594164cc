"""Fitting an MCGSM: what it finds, what it keeps, and that it goes on exactly where it was."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from ndrnn.density import MCGSM, Penalty

F64 = torch.float64


def known_model(outputs: int = 1) -> MCGSM:
    """A model whose components, scales and features all show in its samples."""
    torch.manual_seed(1)
    model = MCGSM(3, outputs, 3, 2, 3, dtype=F64)
    with torch.no_grad():
        model.priors.normal_()
        model.scales.normal_(std=1.5)
        model.weights.uniform_(0.3, 1.5)
        model.features.normal_()
        model.predictors.normal_(std=2)
        model.means.normal_()
        if outputs > 1:
            model.cholesky.add_(torch.randn(3, outputs, outputs, dtype=F64) * 0.5)
    return model


def drawn(model: MCGSM, count: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, model.num_inputs, generator=generator, dtype=F64)
    return x, model(x).sample(generator=generator)


@pytest.mark.parametrize(("outputs", "dtype"), [(1, F64), (2, torch.float32)], ids=str)
def test_a_known_model_is_recovered(outputs, dtype):
    true = known_model(outputs)
    x, y = (t.to(dtype) for t in drawn(true, 10_000, 2))
    fits = []
    # a mixture has local optima, so a user starts more than once and keeps what the validation pair prefers
    for seed in range(3):
        torch.manual_seed(seed)
        model = MCGSM(3, outputs, 3, 2, 3, dtype=dtype)
        report = model.fit(x[:8000], y[:8000], x[8000:], y[8000:], initialize=True, max_iter=300)
        assert report.best_loss == min(checked for _, _, checked in report.history)
        fits.append((report.best_loss, model))
    model = min(fits, key=lambda fit: fit[0])[1]
    # the true model's mean log-density on fresh data estimates its entropy; ours differs by the divergence
    x, y = drawn(true, 40_000, 3)
    divergence = (true(x).log_prob(y) - model(x.to(dtype)).log_prob(y.to(dtype))).mean()
    assert -0.001 < float(divergence.detach()) < 0.01


def test_a_fit_improves_monotonically_and_reports_what_it_did(capsys):
    x, y = drawn(known_model(), 2000, 4)
    model = MCGSM(3, 1, 2, 2, dtype=F64).initialize(x, y)
    calls = []
    report = model.fit(x, y, max_iter=12, validate_every=4, callback=lambda *args: calls.append(args))
    losses = [loss for _, loss, _ in report.history]
    assert losses == sorted(losses, reverse=True)
    assert [i for i, _, _ in report.history] == [0, 4, 8, 12]
    assert calls == report.history[1:]
    assert report.reason == "max_iter"
    assert report.iterations == 12
    assert report.evaluations >= 12
    assert -model.evaluate(x, y) * math.log(2) == pytest.approx(report.best_loss, rel=1e-9)
    assert capsys.readouterr().err == ""
    model.fit(x, y, max_iter=5, progress=True)
    assert "iteration 5/5: training" in capsys.readouterr().err


def test_nothing_changes_without_iterations():
    x, y = drawn(known_model(), 500, 5)
    model = MCGSM(3, 1, 2, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = model.fit(x.float(), y.float(), max_iter=0)
    assert report.iterations == 0
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_best_parameters_on_the_validation_pair_are_kept():
    true = known_model()
    x, y = drawn(true, 60, 6)
    x_val, y_val = drawn(true, 2000, 7)
    torch.manual_seed(0)
    model = MCGSM(3, 1, 6, 4, dtype=F64)
    report = model.fit(
        x, y, x_val, y_val, initialize=True, max_iter=400, validate_every=2, patience=5, tolerance=-1.0
    )
    assert report.reason == "patience"
    checked = [v for _, _, v in report.history]
    # sixty samples are overfitted: training went on after the best validation
    assert checked.index(min(checked)) == len(checked) - 1 - 5
    assert checked[-1] > report.best_loss
    assert report.train_loss < report.history[checked.index(min(checked))][1]
    assert -model.evaluate(x_val, y_val) * math.log(2) == pytest.approx(report.best_loss, rel=1e-9)


def test_it_stops_when_it_has_converged_or_is_told_to():
    x, y = drawn(known_model(), 500, 8)
    model = MCGSM(3, 1, 1, 1, dtype=F64)
    assert model.fit(x, y, initialize=True, max_iter=500).reason == "converged"
    report = MCGSM(3, 1, 2, 2, dtype=F64).fit(x, y, callback=lambda i, *_: i < 10, initialize=True)
    assert (report.reason, report.iterations) == ("callback", 10)


def test_a_gaussian_is_found_in_closed_form():
    # one component, one scale and no gate: least squares
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(400, 3, generator=generator, dtype=F64)
    y = (
        x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=F64)
        + 3
        + 0.2 * torch.randn(400, 1, generator=generator, dtype=F64)
    )
    model = MCGSM(3, 1, 1, 1, dtype=F64)
    model.fit(x, y, max_iter=500, tolerance=0.0)
    solution = torch.linalg.lstsq(torch.cat([x, torch.ones_like(y)], 1), y)
    torch.testing.assert_close(model.predictors[0, 0].detach(), solution.solution[:3, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.means[0].detach(), solution.solution[3], rtol=0, atol=1e-5)
    variance = (y - torch.cat([x, torch.ones_like(y)], 1) @ solution.solution).square().mean()
    torch.testing.assert_close(model.scales[0, 0].detach().neg().exp(), variance, rtol=1e-4, atol=0)


@pytest.mark.parametrize("after", [0, 2])
def test_a_fit_goes_on_exactly_where_it_was(tmp_path, after):
    x, y = (t.float() for t in drawn(known_model(), 2000, 10))
    x_val, y_val = (t.float() for t in drawn(known_model(), 500, 11))
    torch.manual_seed(0)
    model = MCGSM(3, 1, 3, 2)
    states: list = []
    options = {"max_iter": 40, "validate_every": 5 if after else 1}
    whole = model.fit(x, y, x_val, y_val, initialize=True, checkpoint=states.append, **options)
    assert len(states) == len(whole.history) - 1
    save_file(states[after], tmp_path / "state.safetensors")
    other = MCGSM(3, 1, 3, 2)
    rest = other.fit(x, y, x_val, y_val, state=load_file(tmp_path / "state.safetensors"), **options)
    assert rest.history == whole.history
    assert rest.evaluations < whole.evaluations
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_more_iterations_from_a_finished_fit():
    x, y = drawn(known_model(), 1000, 12)
    torch.manual_seed(0)
    model = MCGSM(3, 1, 2, 2, dtype=F64)
    whole = model.fit(x, y, initialize=True, max_iter=20)
    torch.manual_seed(0)
    first = MCGSM(3, 1, 2, 2, dtype=F64).fit(x, y, initialize=True, max_iter=10)
    second = MCGSM(3, 1, 2, 2, dtype=F64).fit(x, y, max_iter=20, state=first.state)
    assert second.history == whole.history


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("name", ["features", "weights", "predictors", "linear", "means"])
def test_penalised_gradient(name, power):
    from ndrnn.density.mixture.fitting import _Objective

    x, y = drawn(known_model(), 50, 13)
    torch.manual_seed(0)
    model = MCGSM(3, 1, 2, 2, dtype=F64)
    with torch.no_grad():
        model.linear.normal_()
        model.means.normal_()
    model.linear.requires_grad_()
    objective = _Objective(model, x, y, {name: Penalty(0.4, power)})
    point = objective.read()
    loss, gradient = objective(point)
    plain = _Objective(model, x, y, {})(point)[0]
    penalty = dict(model.named_parameters())[name].abs().pow(power).sum().detach()
    assert loss - plain == pytest.approx(0.4 * float(penalty), rel=1e-9)
    direction = torch.randn(len(point), generator=torch.Generator().manual_seed(1), dtype=F64)
    ahead, behind = objective(point + 1e-6 * direction)[0], objective(point - 1e-6 * direction)[0]
    assert (ahead - behind) / 2e-6 == pytest.approx(float(gradient @ direction), rel=1e-5)


def test_penalties_shrink():
    x, y = drawn(known_model(), 1000, 14)
    sizes = []
    for strength in (0.0, 0.1, 10.0):
        torch.manual_seed(0)
        model = MCGSM(3, 1, 2, 2, dtype=F64)
        model.fit(x, y, initialize=True, max_iter=60, penalties={"predictors": Penalty(strength)})
        sizes.append(float(model.predictors.detach().norm()))
    assert sizes[0] > sizes[1] > sizes[2]


def test_frozen_parameters_stay():
    x, y = drawn(known_model(), 500, 15)
    model = MCGSM(3, 1, 2, 2, dtype=F64).initialize(x, y)
    model.means.requires_grad_(False)
    before, features = model.means.clone(), model.features.detach().clone()
    model.fit(x, y, max_iter=5)
    assert torch.equal(model.means, before)
    assert not model.linear.any()  # unless asked for they stay at zero
    assert not torch.equal(model.features.detach(), features)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter with requires_grad=True"):
        model.fit(x, y)


def test_a_wild_start_is_survived():
    # the first steps of the line search overflow; they are shortened
    x, y = drawn(known_model(), 500, 16)
    model = MCGSM(3, 1, 2, 2)
    with torch.no_grad():
        model.scales.fill_(35.0)
        model.predictors.fill_(1e3)
        model.features.fill_(1e6)
    report = model.fit(x.float(), y.float(), max_iter=50)
    assert all(math.isfinite(loss) for _, loss, _ in report.history)
    assert report.train_loss < report.history[0][1]
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validate_every": 0}, "validate_every must be at least 1, got 0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"history": 0}, "history must be at least 1, got 0"),
        ({"max_iter": -1}, "max_iter must not be negative, got -1"),
        (
            {"penalties": {"weight": Penalty(1.0)}},
            r"penalties must be named after parameters .* got \['weight'\]",
        ),
        ({"val_inputs": torch.zeros(2, 3)}, "val_inputs and val_outputs must be given together"),
        ({"state": {}}, r"state must come from a fit of the same parameters, \(\d+,\) values, got none"),
    ],
)
def test_bad_options(options, message):
    x, y = torch.randn(20, 3), torch.randn(20, 1)
    with pytest.raises(ValueError, match=message):
        MCGSM(3, 1, 2, 2).fit(x, y, **options)


def test_bad_data():
    model = MCGSM(3, 1, 2, 2)
    x, y = torch.randn(20, 3), torch.randn(20, 1)
    with pytest.raises(ValueError, match=r"got \(20, 2\) and \(20, 1\)"):
        model.fit(x[:, :2], y)
    with pytest.raises(ValueError, match=r"got \(20, 3\) and \(20,\)"):
        model.fit(x, y[:, 0])
    with pytest.raises(ValueError, match=r"val_inputs and val_outputs must have shapes .* got \(20, 2\)"):
        model.fit(x, y, x[:, :2], y)
    with pytest.raises(TypeError, match=r"inputs and outputs must be torch.float32, got torch.float64"):
        model.fit(x.double(), y)
    with pytest.raises(ValueError, match="outputs must be finite, got 20 values"):
        model.fit(x, y / 0)
    with pytest.raises(ValueError, match="power must be 1 or 2, got 3"):
        Penalty(1.0, 3)
    with pytest.raises(ValueError, match="strength must not be negative, got -1"):
        Penalty(-1.0)
