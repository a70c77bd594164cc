"""Networks of convolutions and scans: padding, batch order, gradients, export, saving, and that each learns."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck
from torch.export import Dim
from torch.testing import assert_close

import ndrnn
from ndrnn.lattice import inside
from ndrnn.nn.networks import LineReader, ScanBlock, ScanClassifier, ScanUNet

pytestmark = pytest.mark.filterwarnings("ignore:backend", "ignore:.*LeafSpec")

EXACT = {"rtol": 1e-11, "atol": 1e-11}
SMALL = {"widths": (2, 3, 4), "scans": (0, 1, 1), "units": (1, 2, 2)}
READER = {
    "widths": (2, 3, 4),
    "scans": (0, 0, 1),
    "blocks": ((1, 1), (2, 2), (2, 1)),
    "units": (1, 1, 2),
}

MAKERS = {
    "block": lambda **more: ScanBlock(2, 3, **more),
    "unet": lambda **more: ScanUNet(2, 3, **{**SMALL, **more}),
    "gathered unet": lambda **more: ScanUNet(2, 3, **{**SMALL, "blocks": ((2, 3), (1, 2), (2, 2)), **more}),
    "separable unet": lambda **more: ScanUNet(2, 3, **{**SMALL, "separable": True, **more}),
    "reader": lambda **more: LineReader(2, 3, **{**READER, **more}),
    "reader of frames": lambda **more: LineReader(
        2, 3, **{**READER, "frame_scans": 1, "collapse": "attention", **more}
    ),
    "classifier": lambda **more: ScanClassifier(2, 3, **{**SMALL, **more}),
    "attentive classifier": lambda **more: ScanClassifier(2, 3, **{**SMALL, "collapse": "attention", **more}),
}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def used(model, seed=0):
    """The network with random weights and moments everywhere, in double precision and evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        for name, moment in model.named_buffers():
            drawn = torch.rand(moment.shape, generator=generator)
            moment.copy_(drawn + 0.5 if name.endswith(("std", "var")) else drawn - 0.5)
    return model.double().eval()


def own_part(model, y, sizes, index):
    """What a network says of one sample of a batch."""
    left = sizes if isinstance(model, ScanBlock) else model.output_sizes(sizes)
    return y[(index, *(slice(size) for size in left[index].tolist()))]


@pytest.fixture
def ragged(normal):
    """Odd and even extents, one of a single point, and NaN where no sample is."""
    sizes = torch.tensor([[7, 10], [5, 3], [1, 1], [4, 9]])
    x = normal(4, 7, 10, 2)
    return x.masked_fill(~inside(sizes, (7, 10))[..., None], torch.nan), sizes


@pytest.mark.parametrize("norm", ["layer", "rms", "batch"])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_sample_in_a_padded_batch_gives_what_it_gives_alone(kind, norm, ragged):
    model = used(MAKERS[kind](norm=norm))
    x, sizes = ragged
    y = model(x, sizes)
    loss = torch.stack([own_part(model, y, sizes, index).sum() for index in range(4)])
    together = torch.autograd.grad(loss.square().sum(), list(model.parameters()), materialize_grads=True)
    alone, losses = None, []
    for index, size in enumerate(sizes.tolist()):
        own = x[(slice(index, index + 1), *map(slice, size))]
        alone = model(own)
        assert_close(own_part(model, y, sizes, index), alone[0], **EXACT)
        losses.append(alone.sum())
    apart = torch.autograd.grad(
        torch.stack(losses).square().sum(), list(model.parameters()), materialize_grads=True
    )
    for one, other in zip(together, apart, strict=True):
        assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["unet", "classifier"])
def test_three_axes(kind, normal):
    model = used(MAKERS[kind](ndim=3))
    sizes = torch.tensor([[4, 5, 6], [3, 2, 5]])
    x = normal(2, 4, 5, 6, 2)
    y = model(x, sizes)
    for index, size in enumerate(sizes.tolist()):
        alone = model(x[(slice(index, index + 1), *map(slice, size))])[0]
        assert_close(own_part(model, y, sizes, index), alone, **EXACT)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_order_of_a_batch_does_not_matter(kind, ragged):
    x, sizes = ragged
    order = torch.tensor([2, 0, 3, 1])
    # in training too: moments of the batch are those of its points in whatever order
    model = used(MAKERS[kind]()).train()
    first, second = model(x, sizes), model(x[order], sizes[order])
    for place, index in enumerate(order.tolist()):
        one = own_part(model, first, sizes, index)
        assert_close(own_part(model, second, sizes[order], place), one, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", MAKERS)
def test_training_does_not_see_what_lies_outside(kind, ragged):
    x, sizes = ragged
    found, fresh = [], used(MAKERS[kind]()).train()
    for filled in (7.0, torch.nan):
        model = deepcopy(fresh)
        y = model(x.nan_to_num(nan=filled) if filled == filled else x, sizes)
        sum(own_part(model, y, sizes, index).square().sum() for index in range(4)).backward()
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found.append([*gradients, *model.buffers()])
    for one, other in zip(*found, strict=True):
        assert torch.isfinite(one).all()
        assert_close(one, other, **EXACT)


def test_batch_norm_is_that_of_torch(normal):
    from ndrnn.nn.networks.parts import BatchNorm

    x, mask = normal(3, 4, 5, 2), torch.rand(3, 4, 5, 1, generator=torch.Generator().manual_seed(0)) < 0.6
    for given in (None, mask):
        ours, theirs = BatchNorm(2).double(), torch.nn.BatchNorm1d(2).double()
        points = x.flatten(0, 2) if given is None else x[mask[..., 0]]
        y, expected = ours(x, given), theirs(points)
        assert_close(y.flatten(0, 2) if given is None else y[mask[..., 0]], expected)
        assert_close(ours.mean, theirs.running_mean)
        assert_close(ours.var, theirs.running_var)
        ours.eval(), theirs.eval()
        y, expected = ours(x, given), theirs(points)
        assert_close(y.flatten(0, 2) if given is None else y[mask[..., 0]], expected)
        before = ours.train().mean.clone()
        ours(x, torch.zeros_like(mask))
        assert torch.equal(ours.mean, before)
        alone = torch.zeros_like(mask)
        alone[1, 2, 3] = True
        assert_close(ours(x, alone)[1, 2, 3], ours.bias)
        assert BatchNorm(2)(x.bfloat16(), alone).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["batch", "layer", "rms"])
@pytest.mark.parametrize("training", [True, False])
def test_norms_give_zeros_outside_the_samples(normal, kind, training):
    from ndrnn.nn.networks.parts import make_norm

    x, mask = normal(3, 4, 5, 2) + 7, torch.rand(3, 4, 5, 1, generator=torch.Generator().manual_seed(0)) < 0.6
    norm = make_norm(2, kind).double().train(training)
    for weight in norm.parameters():
        torch.nn.init.constant_(weight, 3.0)
    y = norm(x, mask)
    assert not y.masked_select(~mask).any()
    assert y.masked_select(mask).all()


@pytest.mark.parametrize(
    "kind", ["block", "unet", "gathered unet", "reader of frames", "attentive classifier"]
)
def test_gradients(kind, normal):
    model = used(MAKERS[kind](norm="layer"))
    sizes = torch.tensor([[5, 4], [3, 3]])
    x = normal(2, 5, 4, 2).requires_grad_()

    def counted(x):
        y = model(x, sizes)
        return torch.cat([own_part(model, y, sizes, index).flatten() for index in range(2)])

    with ndrnn.backend("reference"):
        assert gradcheck(counted, x, fast_mode=True)


def test_a_unet_without_scans_is_convolutions_pooling_and_skips(normal):
    """Against plain torch, features first."""
    model = used(ScanUNet(2, 3, widths=(2, 4), scans=(0, 0), convolutions=1, norm="layer"))
    mean = torch.tensor([0.2, -0.1], dtype=torch.float64)
    model.standardize(mean, torch.tensor([2.0, 0.0]))
    x = normal(1, 5, 6, 2)

    def convolution(part, x):
        y = F.conv2d(x, part.convolution.weight, padding=1).movedim(1, -1)
        return F.relu(F.layer_norm(y, y.shape[-1:], part.norm.norm.weight, part.norm.norm.bias)).movedim(
            -1, 1
        )

    scaled = ((x - mean) / torch.tensor([2.0, 1.0])).movedim(-1, 1)
    fine = convolution(model.encoder.levels[0].convolutions[0], scaled)
    coarse = convolution(model.encoder.levels[1].convolutions[0], F.max_pool2d(fine, 2, ceil_mode=True))
    back = F.interpolate(coarse, scale_factor=2.0, mode="nearest")[:, :, :5, :6]
    top = convolution(model.up[0].convolutions[0], torch.cat([fine, back], 1))
    assert_close(model(x), model.output(top.movedim(1, -1)), **EXACT)


def test_a_block_adds_what_its_layer_says(normal):
    block = used(ScanBlock(3, 2, norm="rms", directions=[(1, -1)]))
    x = normal(2, 4, 5, 3)
    normed = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * block.norm.norm.weight
    layer = ndrnn.MDGRU(3, 2, directions=[(1, -1)], dtype=torch.float64)
    layer.load_state_dict(block.layer.state_dict())
    assert_close(block(x), x + block.linear(layer(normed)), **EXACT)


def test_a_far_corner_is_heard_of_only_by_scans(normal):
    x = normal(1, 33, 33, 2)
    for scans, heard in (((0, 0), False), ((0, 1), True)):
        model = used(ScanUNet(2, 3, widths=(2, 3), scans=scans, norm="layer"))
        other = x.clone()
        other[0, 0, 0] += 1
        assert (model(x)[0, -1, -1] != model(other)[0, -1, -1]).any().item() == heard


@pytest.mark.parametrize(
    "kind",
    [
        "block",
        "unet",
        "reader",
        "classifier",
        pytest.param("gathered unet", marks=pytest.mark.slow),
        pytest.param("separable unet", marks=pytest.mark.slow),
        pytest.param("reader of frames", marks=pytest.mark.slow),
        pytest.param("attentive classifier", marks=pytest.mark.slow),
    ],
)
def test_export_with_free_batch_and_extents(kind):
    # two levels: three take torch three times as long
    few = {"widths": (2, 3), "scans": (0, 1), "units": (1, 2), "blocks": ((1, 1), (2, 3))}
    if kind == "gathered unet":
        few["blocks"] = ((2, 3), (2, 2))
    model = MAKERS[kind](**({} if kind == "block" else few)).eval()
    x, sizes = torch.randn(3, 10, 13, 2), torch.tensor([[10, 13], [7, 12], [3, 5]])
    free = dict.fromkeys(range(3), Dim.DYNAMIC)
    with torch.no_grad():
        program = torch.export.export(model, (x, sizes), dynamic_shapes=(free, {0: Dim.DYNAMIC})).module()
        for lattice, extents in (((7, 9), [[7, 9], [3, 8]]), ((12, 8), [[5, 8]])):
            x, sizes = torch.randn(len(extents), *lattice, 2), torch.tensor(extents)
            assert_close(program(x, sizes), model(x, sizes))


@pytest.mark.parametrize("kind", MAKERS)
def test_saved_and_loaded(kind, tmp_path, ragged):
    model = used(MAKERS[kind](norm="layer", dropout=0.1, stochastic_depth=0.2, layer="StableMDLSTM"))
    ndrnn.save(model, tmp_path / "model.safetensors")
    again = ndrnn.load(tmp_path / "model.safetensors")
    assert type(again) is type(model)
    assert again.config() == {name: _lists(value) for name, value in model.config().items()}
    assert_close(again(*ragged), model(*ragged), **EXACT)


def _lists(value):
    return [_lists(entry) for entry in value] if isinstance(value, tuple) else value


def test_every_layer_and_what_it_shows(normal):
    x = normal(1, 4, 5, 2, dtype=torch.float32)
    for name in ndrnn.registry.layers:
        model = ScanUNet(2, 3, **SMALL, layer=name)
        assert model(x).shape == (1, 4, 5, 3)
        assert f"{name}(3, 2, ndim=2" in repr(model)
    assert "blocks=[(1, 1), (2, 2), (2, 2)]" in repr(model)


def test_sizes_of_what_comes_out():
    sizes = torch.tensor([[48, 101], [17, 1]])
    assert LineReader(1, 5).output_sizes(sizes).tolist() == [[26], [1]]
    assert ScanUNet(1, 5).output_sizes(sizes).tolist() == sizes.tolist()
    assert ScanClassifier(1, 5).output_sizes(sizes).shape == (2, 0)


def test_dropout_and_stochastic_depth_are_for_training_alone(normal):
    x = normal(8, 4, 5, 2, dtype=torch.float32)
    block = ScanBlock(2, 3, stochastic_depth=0.5, norm="layer")
    torch.manual_seed(0)
    passed = (block(x) == x).flatten(1).all(1)
    assert 0 < passed.sum() < 8
    model = ScanUNet(2, 3, **SMALL, dropout=0.5)
    assert not torch.equal(model(x), model(x))
    for part in (block.eval(), model.eval()):
        assert torch.equal(part(x), part(x))


@pytest.mark.parametrize("scans", [(0, 0, 1), (0, 1, 0)])
def test_dropout_spares_levels_of_convolutions(normal, scans):
    dropping = []
    model = ScanUNet(2, 3, widths=(4, 6, 8), scans=scans, dropout=0.5)
    model.encoder.dropout.register_forward_hook(lambda module, given, found: dropping.append(found.shape[-1]))
    model(normal(2, 8, 8, 2, dtype=torch.float32))
    # into the level that scans the features of the one above it, and its own on the way up
    assert dropping == ([6, 8] if scans[2] else [4, 6])


def test_stochastic_depth_keeps_the_mean(normal):
    x = normal(1, 3, 3, 2).expand(4000, 3, 3, 2)
    block = used(ScanBlock(2, 2, stochastic_depth=0.25))
    torch.manual_seed(0)
    with torch.no_grad():
        branch, mean = block(x[:1]) - x[:1], (block.train().eval()(x[:1]) - x[:1])
        block.stochastic_depth.train()
        assert_close((block(x) - x).mean(0, keepdim=True), branch, rtol=0.05, atol=0.01)
    assert torch.equal(branch, mean)


@pytest.mark.parametrize("kind", MAKERS)
def test_one_sample_needs_no_batch_axis(kind, ragged):
    model = used(MAKERS[kind]())
    x, sizes = ragged
    assert_close(model(x[1], sizes[1]), model(x[1:2], sizes[1:2])[0], **EXACT)
    assert_close(model(x[0]), model(x[:1])[0], **EXACT)


@pytest.mark.parametrize("kind", MAKERS)
def test_recomputation_changes_memory_alone(kind, normal):
    x, found = normal(2, 7, 10, 2), []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = used(MAKERS[kind](recompute=recompute))
        y = model(x)
        y.square().sum().backward()
        found.append([y, *(weight.grad for weight in model.parameters() if weight.grad is not None)])
    for one, other in zip(*found, strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_network_is_made_without_memory_on_the_meta_device():
    with torch.device("meta"):
        model = LineReader(2, 3, frame_scans=1)
    assert all(value.is_meta for value in model.state_dict().values())


def bars(count=16):
    """Images of odd extents with a bar that lies (0) or stands (1), its points labelled 1."""
    generator = torch.Generator().manual_seed(0)
    x, points = 0.3 * torch.rand((count, 11, 13, 1), generator=generator), torch.zeros(count, 11, 13).long()
    sizes = torch.tensor([[11, 13], [9, 12], [10, 9], [11, 11]] * (count // 4))
    classes = torch.arange(count) % 2
    for index, stands in enumerate(classes.tolist()):
        place = int(torch.randint(1, 7, (), generator=generator))
        where = (index, slice(1, 8), slice(place, place + 2))
        where = where if stands else (index, where[2], where[1])
        x[where] += 0.6
        points[where] = 1
    return x, sizes, points, classes


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("kind", ["block", "unet", "reader", "classifier"])
def test_each_learns(kind, norm):
    torch.manual_seed(0)
    x, sizes, points, classes = bars()
    counted = inside(sizes, x.shape[1:-1])
    if kind == "block":
        x = x.expand(-1, -1, -1, 2)
    model = {
        "block": lambda: ScanBlock(2, 6, norm=norm),
        "unet": lambda: ScanUNet(1, 2, widths=(4, 8), scans=(0, 1), norm=norm),
        "reader": lambda: LineReader(1, 3, widths=(4, 8), scans=(0, 1), blocks=((1, 1), (2, 2)), norm=norm),
        "classifier": lambda: ScanClassifier(1, 2, widths=(4, 8), scans=(0, 1), norm=norm),
    }[kind]()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(60):
        scores = model(x, sizes)
        if kind == "classifier":
            loss = F.cross_entropy(scores, classes)
        elif kind == "reader":
            frames = model.output_sizes(sizes)[:, 0]
            lengths = torch.ones(len(x), dtype=torch.long)
            loss = F.ctc_loss(scores.log_softmax(-1).transpose(0, 1), classes + 1, frames, lengths)
        else:
            loss = F.cross_entropy(scores[counted], points[counted])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # a norm over so few features leaves little of what a point's features say together
    assert losses[-1] < (0.3 if norm == "batch" else 0.7) * losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScanUNet(1, 2, widths=()), "widths must name at least one level"),
        (lambda: ScanUNet(1, 2, scans=(1,)), r"scans must have one number for each of the 3 widths, got \(1,\)"),
        (lambda: ScanUNet(1, 2, units=(1,)), r"units must have one number for each of the 3 widths, got \(1,\)"),
        (lambda: ScanUNet(1, 2, blocks=((2, 2),)), "blocks must have 2 numbers for each of the 3 widths"),
        (lambda: ScanUNet(1, 2, widths=(4, 0, 4)), "widths must be ints of at least 1, got 0"),
        (lambda: ScanUNet(1, 2, scans=(0, -1, 0)), "scans must be ints of at least 0, got -1"),
        (lambda: ScanUNet(1, 2, convolutions=0), "convolutions must be ints of at least 1, got 0"),
        (lambda: ScanUNet(1, 2, ndim=4), "ndim must be 1, 2 or 3 for convolutions, got 4"),
        (lambda: ScanUNet(1, 2, norm="group"), 'norm must be "layer", "rms" or "batch", got \'group\''),
        (lambda: ScanUNet(1, 2, layer="GRU"), "layer 'GRU' is not known; did you mean 'MDGRU'"),
        (lambda: ScanUNet(1, 2, dropout=1.0), r"dropout must lie in \[0, 1\), got 1.0"),
        (lambda: ScanBlock(1, 2, stochastic_depth=-1), r"stochastic_depth must lie in \[0, 1\), got -1"),
        (lambda: LineReader(1, 2, collapse="best"), "collapse must be .*, got 'best'"),
        (lambda: LineReader(1, 2, ndim=1, blocks=()), "ndim must be at least 2 for a reader of lines, got 1"),
        (lambda: LineReader(1, 2, frame_scans=-1), "frame_scans must be an int of at least 0, got -1"),
        (
            lambda: ScanClassifier(1, 2)(torch.zeros(1, 4, 4, 2)),
            r"x must have shape \(N, D1, D2, 1\), or \(D1, D2, 1\) unbatched, got \(1, 4, 4, 2\)",
        ),
        (
            lambda: ScanUNet(1, 2)(torch.zeros(1, 4, 4, 1), torch.tensor([[4, 5]])),
            r"sizes on axis 1 must lie in \[0, 4\]",
        ),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
