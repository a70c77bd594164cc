"""Training: what is learned, what is kept, and that nothing is lost when the program is killed."""

import io
import math
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ndrnn.density import RIDE, Modern, Published, RideReport
from ndrnn.density.learn.training import Look
from ndrnn.progress import Progress
from ndrnn.saving import snapshot

SMALL = {"num_components": 4, "num_scales": 2, "num_features": 4}


def volatile_images(n: int, side: int, seed: int) -> Tensor:
    """Images whose pixels are uncorrelated, but whose spread depends on the pixel to the left."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, side, side + 20, generator=generator)
    columns = [noise[..., 0]]
    for j in range(1, side + 20):
        columns.append((0.1 + 0.9 * columns[-1].square().clamp(max=4)).sqrt() * noise[..., j])
    return torch.stack(columns[20:], -1)


def volatile_entropy(images: Tensor) -> float:
    """Nats per pixel, the mean over the pixels that a 5-wide window predicts."""
    spread = (0.1 + 0.9 * images[:, 2:, 1:-3].square().clamp(max=4)).sqrt()
    return float(spread.log().mean()) + 0.5 * math.log(2 * math.pi * math.e)


def fresh(seed: int = 0, layers: int = 1, **options: Any) -> RIDE:
    torch.manual_seed(seed)
    return RIDE(6, layers, **{**SMALL, **options})


QUICK = Modern(
    steps=6, batch_size=4, crop=10, validate_every=2, tune_iterations=30, tune_pixels=400, averaging=0.9
)
STAGES = Published(
    patch_sizes=(8, 10),
    learning_rates=(0.1, 0.05),
    batch_size=4,
    tune_iterations=25,
    tune_pixels=400,
    patience=9,
)


def test_it_learns_what_no_linear_model_can() -> None:
    """A Gaussian, the best that the linear prediction of the whitening can give, loses 0.27 nats, and the marginal of
    the pixels 0.16."""
    images, held_out = volatile_images(40, 24, 0), volatile_images(40, 24, 1)
    entropy = volatile_entropy(held_out)
    schedule = Modern(
        steps=60, batch_size=8, crop=16, learning_rate=1e-2, tune_iterations=60, tune_pixels=20_000
    )
    ride = fresh()
    report = ride.fit(images, held_out, schedule=schedule, progress=False)
    with torch.no_grad():
        loss = -float(ride.log_prob(held_out).mean())
    assert report.best_loss == pytest.approx(loss, abs=1e-5)
    assert 0.5 * math.log(2 * math.pi * math.e * float(held_out.var())) > entropy + 0.25
    assert entropy - 0.01 < loss < entropy + 0.09


def test_the_published_stages_are_momentum_descent_on_tiles() -> None:
    """With as many tiles as a batch takes, every step sees all of them, and plain SGD gives the same weights."""
    images = volatile_images(4, 8, 0)
    schedule = Published(
        patch_sizes=(8,), learning_rates=(0.2,), batch_size=4, epochs=5, tune_iterations=0, augment="none"
    )
    ride, plain = fresh(), fresh()
    report = ride.fit(images, schedule=schedule, progress=False)
    assert report.steps == 5
    plain.whitening.load_state_dict(ride.whitening.state_dict())
    optimizer = torch.optim.SGD([p for p in plain.parameters() if p.requires_grad], lr=0.2, momentum=0.9)
    for _ in range(5):
        optimizer.zero_grad()
        (-plain.log_prob(images).mean()).backward()
        optimizer.step()
    for (name, p), q in zip(ride.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5, msg=name)


def test_published_defaults() -> None:
    stages = Published().stages()
    assert [stage.size for stage in stages] == [8, 10, 12, 14, 16, 18, 20, 22]
    assert [stage.rate(0.7) for stage in stages] == [1.0, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 0.0005]
    assert {(stage.batch_size, stage.momentum, stage.optimizer) for stage in stages} == {(50, 0.9, "sgd")}


def test_the_modern_rate_rises_and_falls() -> None:
    (stage,) = Modern(learning_rate=2.0, warmup=0.1).stages()
    assert stage.rate(0.0) == 0
    assert stage.rate(0.05) == pytest.approx(1)
    assert stage.rate(0.1) == pytest.approx(2)
    assert stage.rate(0.55) == pytest.approx(1)
    assert stage.rate(1.0) == pytest.approx(0)


def test_both_schedules_look_where_they_say() -> None:
    images, held_out = volatile_images(8, 20, 0), volatile_images(3, 12, 1)
    looks: list[Look] = []
    report = fresh().fit(images, held_out, schedule=QUICK, progress=False, callback=looks.append)
    assert [(look.stage, look.step) for look in looks] == [(0, 2), (0, 4), (0, 6), (0, 6)]
    assert report.history == looks
    assert report.reason == "finished"
    report = fresh().fit(images, schedule=STAGES, progress=False)
    # 8 pictures of 20 x 20 hold 32 tiles of either size: 8 steps a stage
    assert [(look.stage, look.step) for look in report.history] == [(0, 8), (0, 8), (1, 8), (1, 8)]
    assert report.steps == 16


def test_the_best_weights_are_kept_and_patience_ends_the_training() -> None:
    """The held-out images are unlike the others, so that learning makes them worse."""
    images = volatile_images(8, 16, 0)
    odd = 5 + 0.01 * volatile_images(3, 12, 1)
    ride = fresh()
    schedule = Modern(steps=500, batch_size=4, crop=10, validate_every=2, patience=3, learning_rate=0.05)
    report = ride.fit(images, odd, schedule=schedule, progress=False)
    losses = [look.val_loss for look in report.history]
    assert report.reason == "patience"
    assert len(losses) == losses.index(min(losses)) + 4
    assert report.best_loss == min(losses)
    with torch.no_grad():
        assert -float(ride.log_prob(odd).mean()) == pytest.approx(min(losses), rel=1e-5)


def test_only_the_top_layer_is_trained_if_wished() -> None:
    images = volatile_images(8, 16, 0)
    ride = fresh()
    ride.fit(images, schedule=QUICK, progress=False)
    whitening = {k: v.clone() for k, v in ride.whitening.state_dict().items()}
    ride.add_layer()
    before = [{k: v.clone() for k, v in layer.state_dict().items()} for layer in ride.layers]
    ride.fit(images + 3, schedule=QUICK, only_top=True, progress=False)
    for k, v in ride.layers[0].state_dict().items():
        assert torch.equal(v, before[0][k])
    for k, v in ride.layers[1].state_dict().items():
        assert not torch.equal(v, before[1][k])
    # a fitted whitening stays
    for k, v in ride.whitening.state_dict().items():
        assert torch.equal(v, whitening[k])


def test_pictures_of_several_sizes_and_of_integers() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = [
        (128 + 40 * torch.randn(h, w, generator=generator)).clamp(0, 255).byte()
        for h, w in ((20, 30), (30, 20), (20, 30))
    ]
    ride = fresh()
    ride.fit(pictures, pictures[:1], levels=256, schedule=QUICK, progress=False)
    rate = ride.bits_per_pixel(pictures[0].unsqueeze(0), base="discrete")
    assert float(rate) == pytest.approx(math.log2(40 * math.sqrt(2 * math.pi * math.e)), abs=0.3)


def test_patches_with_zeros_around_are_taken_whole() -> None:
    ride = fresh(pad=True)
    images = volatile_images(12, 8, 0)
    report = ride.fit(images, schedule=QUICK, progress=False)
    assert report.reason == "finished"
    assert ride.log_prob(images).shape == (12, 8, 8)
    with pytest.raises(ValueError, match="same size"):
        fresh(pad=True).fit([images[0], images[0, :6]], schedule=QUICK, progress=False)


def weights_of(ride: RIDE) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in ride.state_dict().items()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def run(schedule: Any, checkpoint: Path | None, **options: Any) -> tuple[RIDE, RideReport]:
    """The training that the tests below interrupt."""
    ride = fresh()
    report = ride.fit(
        volatile_images(8, 20, 0),
        volatile_images(3, 12, 1),
        schedule=schedule,
        checkpoint=checkpoint,
        checkpoint_seconds=0,
        progress=False,
        **options,
    )
    return ride, report


# the state is written after every step: 6 of descent, then one a piece of the L-BFGS
CHILD = """
import os, signal, sys
from functools import cache
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[4]))
sys.path.insert(0, sys.argv[5])
import test_training as here
from ndrnn.saving import snapshot
writes, replace = 0, os.replace
def kill(source, target):
    global writes
    writes += 1
    if writes == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)  # the new state lies there whole, but under its temporary name
    replace(source, target)
os.replace = kill
here.run(getattr(here, sys.argv[1]), Path(sys.argv[2]))
"""


@cache
def uninterrupted(schedule: str) -> tuple[RIDE, RideReport]:
    return run(globals()[schedule], None)


@pytest.mark.parametrize(("schedule", "writes"), [("QUICK", 4), ("STAGES", 10), ("STAGES", 12)])
def test_a_killed_training_goes_on_to_the_same_weights(schedule: str, writes: int, tmp_path: Path) -> None:
    path = tmp_path / "training.safetensors"
    arguments = [schedule, path, writes, torch.get_num_threads(), Path(__file__).parent]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)], capture_output=True, text=True
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert path.exists()
    state = snapshot.read(path)
    assert state["reason"] == ""
    resumed, report = run(globals()[schedule], path)
    whole, expected = uninterrupted(schedule)
    assert_same(weights_of(resumed), weights_of(whole))
    assert report.history == expected.history
    assert report.best_loss == expected.best_loss
    assert report.steps == expected.steps


def test_ctrl_c_ends_after_the_step_and_a_later_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "training.safetensors"

    write, writes = snapshot.write, 0

    def interrupt(*arguments: Any) -> None:
        nonlocal writes
        write(*arguments)
        writes += 1
        if writes == 4:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(snapshot, "write", interrupt)
    _, report = run(QUICK, path)
    monkeypatch.undo()
    assert report.reason == "interrupted"
    assert report.steps == 5
    # the last steps count too: what is kept is the best of all looks, the last one at the very end
    assert [look.step for look in report.history] == [2, 4, 5]
    assert report.best_loss == min(look.val_loss for look in report.history)
    assert signal.getsignal(signal.SIGINT) is before
    resumed, report = run(QUICK, path)
    assert report.reason == "finished"
    whole, _ = run(QUICK, None)
    assert_same(weights_of(resumed), weights_of(whole))
    # and once finished there is nothing left to do
    again, report = run(QUICK, path)
    assert report.reason == "finished"
    assert_same(weights_of(again), weights_of(whole))


def test_a_callback_can_stop() -> None:
    _, report = run(QUICK, None, callback=lambda look: False)
    assert report.reason == "interrupted"
    assert report.steps == 2


def test_a_foreign_or_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "training.safetensors"
    run(QUICK, path, callback=lambda look: False)
    with pytest.raises(ValueError, match="belongs to another training: its seed is 0, not 1"):
        run(QUICK, path, seed=1)
    with pytest.raises(
        ValueError, match="belongs to another training: its schedule is 'Modern', not 'Published'"
    ):
        run(STAGES, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        run(QUICK, path)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not the state of a training"):
        run(QUICK, path)


def test_a_snapshot_comes_back_as_it_was(tmp_path: Path) -> None:
    tensor = torch.arange(6.0).view(2, 3).T
    tree = {"a": [1, 2.5, None, True, "text"], 3: (tensor, {"nested": torch.tensor(7)}), "inf": math.inf}
    snapshot.write(tmp_path / "state", tree)
    back = snapshot.read(tmp_path / "state")
    assert torch.equal(back[3][0], tensor)
    assert int(back[3][1]["nested"]) == 7
    assert isinstance(back[3], tuple)
    assert back["a"] == tree["a"]
    assert back["inf"] == math.inf
    with pytest.raises(TypeError, match="no set"):
        snapshot.write(tmp_path / "state", {"a": {1, 2}})
    with pytest.raises(FileNotFoundError):
        snapshot.read(tmp_path / "nothing")
    assert os.listdir(tmp_path) == ["state"]


def test_progress_is_lines_without_a_terminal_and_a_bar_on_one() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain = io.StringIO()
    with Progress("work", 1000, stream=plain) as progress:
        for step in range(1000):
            progress.update(step + 1, f"loss {step}")
    lines = plain.getvalue().splitlines()
    assert 19 <= len(lines) <= 22
    assert lines[-1].split()[:3] == ["work", "100", "%"]
    assert lines[-1].endswith("loss 999")
    silent = io.StringIO()
    with Progress("work", 10, shown=False, stream=silent) as progress:
        progress.update(10)
    assert silent.getvalue() == ""


def test_refusals() -> None:
    ride, images = fresh(), volatile_images(4, 12, 0)

    def fit(*args: Any, **options: Any) -> None:
        ride.fit(*args, **{"schedule": QUICK, "progress": False, **options})

    with pytest.raises(TypeError, match="floating-point"):
        fit(torch.zeros(4, 12, 12, dtype=torch.uint8))
    with pytest.raises(TypeError, match="integers when levels=256"):
        fit(images, levels=256)
    with pytest.raises(ValueError, match="at least as large as a patch, 10 x 10, got 9 x 12"):
        fit(images[:, :9])
    with pytest.raises(ValueError, match="1 channels and 0 observed ones, got 3"):
        fit(torch.zeros(4, 12, 12, 3))
    with pytest.raises(ValueError, match="constant"):
        fit(torch.full((4, 12, 12), 0.5))
    images[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="images must be finite"):
        fit(images)
    with pytest.raises(ValueError, match="at least one picture"):
        fit([])
    with pytest.raises(ValueError, match=r"\[0, 4\)"):
        fit(torch.full((4, 12, 12), 4), levels=4)
    with pytest.raises(ValueError, match="at least one batch of 4"):
        fit(volatile_images(1, 12, 0), schedule=STAGES)
    with pytest.raises(ValueError, match="equally many"):
        Published(patch_sizes=(8,))
    with pytest.raises(ValueError, match="steps must be above 0"):
        Modern(steps=0)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        fresh().fit(
            volatile_images(4, 12, 0),
            schedule=Modern(steps=9, batch_size=4, crop=10, learning_rate=1e30, clip=1e30),
            progress=False,
        )
