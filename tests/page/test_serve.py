"""The command: which models it takes, where it listens, and what is left when it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import types
import urllib.request

import pytest
import torch

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import ndrnn
from ndrnn.app.cli import main
from ndrnn.app.commands import serve
from ndrnn.app.page.served import open_models
from ndrnn.saving import models
from ndrnn.tasks import Facts

from .conftest import MARK, make_run, png, smooth


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--port", "70000"), "port must lie in [0, 65535], got 70000"),
        (("--max-megabytes", "0"), "max_megabytes must lie between 0 and a million, got 0.0"),
        (("--max-megapixels", "nan"), "max_megapixels must lie between 0 and a million, got nan"),
    ],
)
def test_options_that_make_no_sense(options, told, capfd):
    assert main(["serve", "photographs-grey", *options]) == 2
    assert told in " ".join(capfd.readouterr().err.replace("│", " ").split())  # out of its frame


def test_a_port_that_is_taken_is_told(capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "photographs-grey", "--port", str(port)]) == 1
    assert f"cannot listen at 127.0.0.1, port {port} (" in capfd.readouterr().err
    assert main(["serve", "photographs-grey", "--host", "no.such.host.invalid", "--port", "0"]) == 1
    assert "cannot listen at no.such.host.invalid, port 0 (" in capfd.readouterr().err


def test_what_is_no_model_is_told(tmp_path, capfd):
    assert main(["serve", "photographs-gray"]) == 2
    assert "photographs-gray: no such model; did you mean 'photographs-grey'?" in capfd.readouterr().err
    models.save(ndrnn.MDGRU(1, 2), tmp_path / "layer.safetensors")
    assert main(["serve", str(tmp_path / "layer.safetensors")]) == 2
    assert "must be a trained task or a density of images, got a MDGRU" in capfd.readouterr().err
    volumes = make_run(
        tmp_path / "organs",
        Facts(3, 1, ("a", "b")),
        *("--task", "label", "--data.format", "masks", "--network.hidden", "2"),
    )
    assert main(["serve", str(volumes)]) == 2
    assert "must be a model of images, got one of 3 axes" in capfd.readouterr().err


def test_what_is_not_installed_is_told(monkeypatch, capfd):
    for name in ("ndrnn.app.commands.serve", "uvicorn"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "ndrnn.app.commands.serve")
    assert main(["serve", "photographs-grey"]) == 1
    assert "uvicorn is missing: pip install 'ndrnn[serve]'" in capfd.readouterr().err


def test_models_have_names_of_their_own(tmp_path):
    options = ("--task", "classify", "--data.format", "classes", "--network.hidden", "2")
    facts = Facts(2, 1, ("a", "b"))
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        make_run(tmp_path / place / "run", facts, *options)
    weights = tmp_path / "one/run/best.safetensors"
    paths = [tmp_path / "one/run", tmp_path / "two/run", weights]
    assert [model.name for model in open_models(paths, "cpu")] == ["run", "run (2)", "run (3)"]
    assert not torch.is_inference_mode_enabled()


def test_nothing_is_left_however_it_ends(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    here = []

    def server(app):
        def run(sockets):
            here.extend(tmp_path.iterdir())
            os.kill(os.getpid(), signal.SIGTERM)

        return types.SimpleNamespace(run=run)

    monkeypatch.setattr(serve, "_server", server)
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGHUP)}
    try:
        assert main(["serve", "photographs-grey", "--host", "0.0.0.0", "--port", "0"]) == 0
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    said = capfd.readouterr()
    assert re.search(r"http://127\.0\.0\.1:\d+/", said.out)
    assert "whoever reaches this address can use the page: it asks for no password" in said.err
    assert len(here) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_it_tells_its_address_answers_there_and_leaves_nothing(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-m", "ndrnn", "serve", "photographs-grey", "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=tmp_path / "work",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(
                r"photographs-grey: (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)", process.stdout.readline()
            )
            assert found
            with urllib.request.urlopen(found[1], timeout=20) as answer:
                assert b"<title>ndrnn</title>" in answer.read()
            drop = urllib.request.Request(f"{found[1]}api/pictures?name=a.png", png(smooth(9, 9)), MARK)
            assert urllib.request.urlopen(drop, timeout=20).status == 201
            assert [path.name for path in (tmp_path / "temporary").rglob("*.png")] == ["a.png"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()
    assert not list((tmp_path / "temporary").iterdir())
    assert not list((tmp_path / "work").iterdir())
