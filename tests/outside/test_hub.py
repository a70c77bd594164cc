"""Models in folders, and what is said to the hub; a folder takes its place."""

from __future__ import annotations

import inspect
import shutil

import pytest
import torch

import ndrnn
from ndrnn import hub
from ndrnn.saving import shipped


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return ndrnn.MDGRU(2, 3, ndim=1)


def assert_equal(one, other):
    assert type(one) is type(other)
    for ours, theirs in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_folder(layer, tmp_path):
    hub.save_pretrained(layer, tmp_path / "a" / "model")
    assert sorted(path.name for path in (tmp_path / "a/model").iterdir()) == [
        "README.md",
        "model.safetensors",
    ]
    for load in (ndrnn.load, hub.from_pretrained):
        assert_equal(load(tmp_path / "a" / "model"), layer)
    assert_equal(hub.from_pretrained(tmp_path / "a" / "model" / "model.safetensors"), layer)
    head = (tmp_path / "a/model/README.md").read_text(encoding="utf-8")
    assert head.startswith("---\nlibrary_name: ndrnn\n---\n\n# MDGRU\n")
    # two directions, each with three gates of 3 units on 2 features, 3 states and a bias, and b_hn
    assert f"; {2 * (3 * 3 * (2 + 3 + 1) + 3)} weights" in head


def test_a_card_stays_unless_another_is_given(layer, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    hub.save_pretrained(layer, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    hub.save_pretrained(layer, tmp_path, card="other")
    assert (tmp_path / "README.md").read_text() == "other"


def test_the_folder_of_a_run_and_a_shipped_model(layer, tmp_path):
    ndrnn.save(layer, tmp_path / "best.safetensors")
    assert_equal(ndrnn.load(tmp_path), layer)
    (name, *_) = shipped.names()
    assert_equal(hub.from_pretrained(name), ndrnn.load(name))


def test_folders_without_weights_and_names_of_nothing(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no folder with weights \(model.safetensors, or best.safetensors"
    ):
        ndrnn.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        hub.from_pretrained("someone/nothing.safetensors")
    with pytest.raises(ValueError, match=r"must end in \.safetensors, or be one of the models that ship"):
        hub.from_pretrained("nothing")


def test_what_cannot_be_saved_leaves_no_folder(tmp_path):
    with pytest.raises(TypeError, match="Linear is not registered"):
        hub.save_pretrained(torch.nn.Linear(1, 1), tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.fixture
def internet(tmp_path, monkeypatch):
    """A folder in the place of the hub; every call is checked against the signature of the true function."""
    theirs = pytest.importorskip("huggingface_hub")
    true, root = theirs.HfApi, tmp_path / "hub"

    def checked(model, own):
        signature = inspect.signature(model)

        def call(*given, **named):
            signature.bind(*given, **named)
            return own(*given, **named)

        return call

    class Made:
        def __init__(self, name):
            self.repo_id = name

    class Api:
        def __init__(self, **named):
            inspect.signature(true).bind(**named)
            for name in ("create_repo", "file_exists", "upload_folder"):
                bound = getattr(true, name).__get__(object())
                setattr(self, name, checked(bound, getattr(self, f"_{name}")))

        def _create_repo(self, name, *, private, exist_ok):
            assert exist_ok
            (root / name).mkdir(parents=True, exist_ok=True)
            return Made(name)

        def _file_exists(self, name, file, *, revision):
            return (root / name / file).exists()

        def _upload_folder(self, *, repo_id, folder_path, ignore_patterns, **_):
            ignored = shutil.ignore_patterns(*ignore_patterns)
            shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True, ignore=ignored)
            return f"https://hub/{repo_id}"

    def download(name, file, *, revision, library_name, **_):
        return str(root / name / file)

    monkeypatch.setattr(theirs, "hf_hub_download", checked(theirs.hf_hub_download, download))
    monkeypatch.setattr(theirs, "HfApi", Api)
    return root


def test_to_the_hub_and_back(layer, internet):
    assert hub.push_to_hub(layer, "someone/model", private=True) == "https://hub/someone/model"
    assert_equal(hub.from_pretrained("someone/model", revision="main", token=False), layer)
    (internet / "someone/model/README.md").write_text("written by a person")
    hub.push_to_hub(layer, "someone/model")
    assert (internet / "someone/model/README.md").read_text() == "written by a person"
    hub.push_to_hub(layer, "someone/model", card="new")
    assert (internet / "someone/model/README.md").read_text() == "new"


def test_the_hub_without_its_package(layer, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"the hub needs huggingface_hub: pip install 'ndrnn\[hub\]'"):
        hub.from_pretrained("someone/model")
