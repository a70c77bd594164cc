"""Trainings that are killed, interrupted, diverge, or are shared by two processes."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from runpy import run_path

import pytest
import torch
from lightning import Callback
from lightning.pytorch.plugins import MixedPrecision
from safetensors.torch import load_file

from ndrnn.data import BadFile
from ndrnn.data.sampler import BatchOrder, shuffled
from ndrnn.learn import BEST, LAST, DivergedError, Options, evaluate, fit
from ndrnn.saving import models as checkpoint
from ndrnn.tasks import ClassifyTask

pytestmark = pytest.mark.filterwarnings("ignore:backend", "ignore:.*LeafSpec")
PROGRAM = Path(__file__).with_name("small_training.py")
_program = run_path(str(PROGRAM))
make, train = _program["make"], _program["train"]


def run(*arguments: object, status: int = 0) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stderr[-3000:]


def weights(task) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in task.state_dict().items()}


def assert_equal(found, expected) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Weights and marks of a training with dropout, weight noise and augmentation, from start to end."""
    task, data = make(weight_noise=0.02)
    record = train(task, data, tmp_path_factory.mktemp("whole"))
    assert record.marks[-1].step == 24
    return weights(task), record


@pytest.mark.parametrize("how", [("kill", 13), ("write-kill", 3)], ids=lambda how: "-".join(map(str, how)))
def test_a_killed_training_resumes_to_the_same_weights(tmp_path, uninterrupted, how):
    expected, whole = uninterrupted
    run(PROGRAM, tmp_path, *how, status=-signal.SIGKILL)
    assert (tmp_path / LAST).exists()
    task, data = make(weight_noise=0.02)
    record = train(task, data, tmp_path, resume=True)
    assert_equal(weights(task), expected)
    assert [mark.loss for mark in record.marks] == [mark.loss for mark in whole.marks]
    assert [mark.metrics for mark in record.marks] == [mark.metrics for mark in whole.marks]
    assert not list(tmp_path.glob(".*"))  # nothing half-written is left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_after_its_step_and_it_resumes(tmp_path, uninterrupted, number):
    class Signal(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 7:
                os.kill(os.getpid(), number)

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    task, data = make(weight_noise=0.02)
    record = train(task, data, tmp_path, callbacks=[Signal()])
    assert record.interrupted
    assert record.marks[-1].step == 8
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    task, data = make(weight_noise=0.02)
    record = train(task, data, tmp_path, resume=True)
    assert not record.interrupted
    assert_equal(weights(task), uninterrupted[0])


def test_resuming_what_has_no_checkpoint_yet_starts_it(tmp_path, uninterrupted):
    task, data = make(weight_noise=0.02)
    train(task, data, tmp_path, resume=True)
    assert_equal(weights(task), uninterrupted[0])


def test_a_training_that_is_over_is_not_trained_on(tmp_path, uninterrupted):
    task, data = make()
    train(task, data, tmp_path)
    ended, again = weights(task), make()
    record = train(*again, tmp_path, resume=True)
    assert_equal(weights(again[0]), ended)
    assert len(record.marks) == 5


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path):
    class Fill(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 8:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    task, data = make()
    try:
        with pytest.raises((OSError, RuntimeError)) as failure:
            train(task, data, tmp_path, callbacks=[Fill()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert getattr(failure.value, "errno", None) in (
        errno.EFBIG,
        errno.ENOSPC,
    ) or "last.ckpt: cannot be written" in str(failure.value)
    assert not list(tmp_path.glob(".*"))
    whole, _ = make()
    train(whole, make()[1], tmp_path / "whole")
    task, data = make()
    train(task, data, tmp_path, resume=True)
    assert_equal(weights(task), weights(whole))
    assert isinstance(checkpoint.load(tmp_path / BEST), type(task))


def test_best_weights_are_those_of_the_best_check(tmp_path):
    task, data = make(epochs=2)
    seen = {}

    class Watch(Callback):
        def on_validation_end(self, trainer, pl_module):
            seen[float(trainer.callback_metrics["sample_error"]), trainer.global_step] = weights(pl_module)

    train(task, data, tmp_path, callbacks=[Watch()])
    best = min(seen)  # the first of equal ones
    assert_equal(weights(checkpoint.load(tmp_path / BEST)), seen[best])


def test_a_checkpoint_holds_nothing_but_tensors_and_plain_values(tmp_path):
    task, data = make(epochs=1)
    train(task, data, tmp_path)
    content = torch.load(tmp_path / LAST, weights_only=True)  # refuses anything else
    assert content["global_step"] == 6
    assert set(content["optimizer_states"][0]["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}


def test_a_run_with_other_settings_is_not_resumed(tmp_path):
    task, data = make(epochs=1)
    train(task, data, tmp_path)
    task, data = make(epochs=1, learning_rate=0.5)
    with pytest.raises(ValueError, match=r"settings.training.learning_rate must be 0.01 .* got 0.5"):
        train(task, data, tmp_path, resume=True)


def test_a_run_from_before_an_option_was_there_is_resumed(tmp_path):
    train(*make(epochs=1), tmp_path)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    del state["ndrnn"]["settings"]["network"]["balance"]
    del state["ndrnn"]["facts"]["reach"]  # which the data's is not compared with, as nobody looked at it
    torch.save(state, tmp_path / "last.ckpt")
    task, data = make(epochs=1)
    record = train(task, data, tmp_path, resume=True)
    assert record.marks[-1].passes == 1
    del state["ndrnn"]["facts"][
        "direction"
    ]  # lines were read as they stood then, which is no direction of now
    torch.save(state, tmp_path / "last.ckpt")
    task, data = make(epochs=1)
    task.facts = replace(task.facts, direction="auto")
    with pytest.raises(
        ValueError, match=r"facts.direction must be '' as when the training began, got 'auto'"
    ):
        train(task, data, tmp_path, resume=True)
    state["ndrnn"]["settings"]["network"]["dropout"] = 0.5
    torch.save(state, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"settings.network.dropout must be 0.5 as when the training began"):
        train(*make(epochs=1), tmp_path, resume=True)


@pytest.mark.parametrize(
    ("before", "now", "fits"), [(3.5, 4.0, True), (0.9, 1.0, True), (1.0, 255.0, False), (255.0, 1.0, False)]
)
def test_a_run_goes_on_with_more_files_but_not_with_those_of_another_scale(before, now, fits):
    task, _ = make(epochs=1)
    task.facts = replace(task.facts, reach=before)
    saved = {}
    task.on_save_checkpoint(saved)
    task.facts = replace(task.facts, reach=now)
    if fits:
        task.on_load_checkpoint(saved)
    else:
        with pytest.raises(ValueError, match=rf"facts.reach must be {before} as when .*, got {now}"):
            task.on_load_checkpoint(saved)


def test_a_damaged_checkpoint_is_named(tmp_path):
    task, data = make(epochs=1)
    train(task, data, tmp_path)
    content = (tmp_path / LAST).read_bytes()
    # cut short, empty, foreign, and what would run a program if it were unpickled
    for damaged in (content[:1000], b"", b"not a checkpoint", b"cos\nsystem\n(S'true'\ntR."):
        (tmp_path / LAST).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"last.ckpt: cannot be resumed from"):
            train(*make(epochs=1), tmp_path, resume=True)


def test_a_loss_that_is_nan_stops_before_it_spoils_the_weights(tmp_path):
    task, data = make(weight_noise=0.02)
    data.split.train.images[11, 2, 2] = torch.nan
    task.prepare = lambda batches: None
    with pytest.raises(
        DivergedError, match=r"the loss is nan at step \d.*input itself is NaN or infinite in sample \d"
    ):
        train(task, data, tmp_path)
    assert all(torch.isfinite(value).all() for value in weights(task).values())


def test_a_loss_beyond_all_meaning_stops_too(tmp_path):
    """Noise that drowns the weights: the network saturates, and its loss stays finite."""
    task, data = make(weight_noise=1e30)
    with pytest.raises(DivergedError, match=r"the loss is \d\.\d+e\+\d\d at step \d"):
        train(task, data, tmp_path)
    assert all(value.abs().max() < 100 for value in parameters(task).values())


def test_a_gradient_that_is_infinite_stops_too(tmp_path, monkeypatch):
    task, data = make()
    loss = task.loss
    # the loss itself stays finite: its derivative at 0 is not
    monkeypatch.setattr(
        task, "loss", lambda batch: loss(batch) + torch.sqrt(task.model.output.bias.sum() * 0)
    )
    with pytest.raises(
        DivergedError,
        match=r"the gradient of model.output.bias is NaN .* largest weight is .*Layer layers.0: states reach",
    ):
        train(task, data, tmp_path)
    assert all(torch.isfinite(value).all() for value in weights(task).values())


def parameters(task) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in task.named_parameters()}


def scaled(factor):
    """Mixed precision of 16 bits with a scaler of gradients that begins with this factor."""
    scaler = torch.amp.GradScaler("cpu", init_scale=factor)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)], "accelerator": "cpu"}, scaler


def test_an_overflow_of_the_scaler_of_gradients_only_leaves_out_the_step(tmp_path):
    task, data = make(weight_noise=0)
    options, scaler = scaled(2.0**22)  # no gradient of 16 bits reaches this far
    before = parameters(task)
    record = train(task, data, tmp_path, **options)
    assert scaler.get_scale() < 2.0**22
    assert record.marks[-1].step == 24
    found = parameters(task)
    assert all(torch.isfinite(value).all() for value in found.values())
    assert any(not torch.equal(found[name], value) for name, value in before.items())


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_infinite_without_a_scaler_is_so_with_one(tmp_path, monkeypatch, what):
    task, data = make(weight_noise=0)
    loss, before = task.loss, parameters(task)
    extra = {
        "loss": lambda: torch.tensor(torch.inf),
        "gradient": lambda: task.model.output.bias.sum().mul(0).sqrt(),
    }
    monkeypatch.setattr(task, "loss", lambda batch: loss(batch) + extra[what]())
    with pytest.raises(DivergedError, match="the loss is inf" if what == "loss" else "the gradient of"):
        train(task, data, tmp_path, **scaled(2.0**4)[0])
    assert_equal(parameters(task), before)


def test_accumulating_gradients_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"accumulate_grad_batches must be 1, .* got 4; a larger batch_size"):
        train(*make(), tmp_path, accumulate_grad_batches=4)
    assert not list(tmp_path.iterdir())


def test_a_check_that_is_nan_counts_as_the_worst(tmp_path, monkeypatch):
    task, data = make()
    results, values = task.results, iter([float("nan"), 0.5, float("nan"), 0.25, float("inf")])
    monkeypatch.setattr(task, "results", lambda: {**results(), "sample_error": next(values)})
    kept = []
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda model, path: (kept.append(task.trainer.global_step), save(model, path))
    )
    with pytest.warns(RuntimeWarning, match="this check counts as the worst") as told:
        train(task, data, tmp_path)
    assert kept == [5, 10, 20]
    assert [str(one.message).split(":")[0] for one in told if "worst" in str(one.message)] == [
        "sample_error is nan at step 5",
        "sample_error is nan at step 15",
        "sample_error is inf at step 24",
    ]


def test_held_out_samples_that_overflow_make_a_check_the_worst_and_are_named(tmp_path, monkeypatch):
    task, data = make()
    forward = task.model.forward

    def overflowing(x, *rest):
        scores = forward(x, *rest)
        return (
            scores if task.training else scores.masked_fill(scores.new_ones(len(x), 1, 1, 1) > 0, torch.nan)
        )

    monkeypatch.setattr(task.model, "forward", overflowing)
    with pytest.warns(
        RuntimeWarning, match=r"sample_error is nan at step \d+, on sample 0 of a batch, sample 1"
    ):
        train(task, data, tmp_path)
    with pytest.raises(
        BadFile, match="sample 0 of a batch: the network makes numbers of it that are not finite"
    ):
        evaluate(task, data, "validation")


def test_two_processes_reach_the_losses_of_one_with_twice_the_batch(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run(
        "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}", PROGRAM, tmp_path, "ddp"
    )
    task, data = make(4, weight_noise=0)
    record = train(task, data, tmp_path / "one")
    losses = [float(line) for line in (tmp_path / "losses.txt").read_text().splitlines()]
    found = load_file(tmp_path / "weights.safetensors")
    for name, value in weights(task).items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
    assert losses == pytest.approx([mark.loss for mark in record.marks], rel=1e-3)


def test_weight_noise_acts_on_the_gradient_and_leaves_the_weights(monkeypatch):
    task, data = make(weight_noise=0.5)
    seen = []
    loss = task.loss

    def watched(batch):
        seen.append(task.model.output.weight.clone())
        return loss(batch)

    monkeypatch.setattr(task, "loss", watched)
    clean = task.model.output.weight.detach().clone()
    fit(task, data, show=False, accelerator="cpu", limit_train_batches=1, max_epochs=1)
    difference = seen[0].detach() - clean
    assert 0.2 < difference.std() < 0.8
    # the first step has the learning rate 0, so that only noise that was left over could change the weights
    assert torch.equal(task.model.output.weight, clean)


def test_the_order_is_a_function_of_seed_and_step():
    make_batches = shuffled(10, seed=3)
    first, second = make_batches(0, 4), make_batches(1, 4)
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(10))
    assert first != second
    assert first == shuffled(10, seed=3)(0, 4)
    assert first != shuffled(10, seed=4)(0, 4)


def test_processes_share_out_each_batch_and_a_resumed_step_goes_on():
    class Trainer:
        def __init__(self, rank, step):
            self.global_rank, self.world_size, self.global_step = rank, 2, step
            self.lightning_module = type("Task", (), {"options": Options(steps_between_checks=4)})

    make_batches = shuffled(9, seed=0)
    stream = [batch for number in range(4) for batch in make_batches(number, 4)]
    for step in (0, 2, 5):
        parts = [list(BatchOrder(make_batches, 2, Trainer(rank, step))) for rank in (0, 1)]
        assert [len(part) for part in parts] == [4, 4]
        for left, right, batch in zip(*parts, stream[step : step + 4], strict=True):
            assert sorted(left + right) == sorted(batch)
            assert left == batch[::2]


def test_the_clock_can_decide_how_long(tmp_path):
    task, data = make(minutes=0.02, steps_between_checks=3)
    record = train(task, data, None)
    assert record.marks[-1].progress == 1
    assert record.marks[-1].step % 3 != 0 or record.seconds >= 1.2


def test_evaluation_gives_the_metrics_of_the_held_out_part():
    task, data = make()
    found = evaluate(task, data)
    assert found.keys() == {"sample_error", "point_error"}
    batch = next(iter(data.test_dataloader()))
    names = torch.tensor([prediction.label for prediction in task.predict_step(batch)])
    assert found["sample_error"] == pytest.approx((names != batch.target).float().mean().item())
    with pytest.raises(ValueError, match="part must be"):
        evaluate(task, data, "train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0"),
        ({"minutes": -1.0}, "minutes must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0 and finite, got nan"),
        ({"weight_noise": -0.1}, "weight_noise must not be below 0"),
        ({"weight_noise": float("inf")}, "weight_noise must not be below 0, and finite, got inf"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_a_task_that_could_not_be_saved_is_not_trained(tmp_path):
    class Unregistered(ClassifyTask):
        pass

    task, data = make()
    with pytest.raises(TypeError, match="Unregistered is not registered"):
        train(Unregistered(task.settings, task.facts), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resuming_needs_a_folder():
    with pytest.raises(ValueError, match="folder must be given"):
        fit(*make(), resume=True)
