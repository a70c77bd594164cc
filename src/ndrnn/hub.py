"""Models in folders, and on the hub of Hugging Face: ``model.safetensors`` and a card, ``README.md``.

The weights are what :func:`ndrnn.save` writes, so that a file of the hub runs no code either. Any registered model can be
kept so, your own too. What talks to the hub needs the package ``huggingface_hub``; folders need nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from .saving import shipped
from .saving.atomic import replacing
from .saving.models import MODEL_FILE, load, name_of, save

CARD_FILE = "README.md"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def save_pretrained(model: nn.Module, folder: str | PathLike[str], *, card: str = "") -> None:
    """Write a model into a folder, with a card.

    Args:
        model: a registered model, see :func:`ndrnn.save`.
        folder: is made if it is not there.
        card: Markdown, such as ``ndrnn card RUN`` prints; by default one that says what the model is, unless the folder
            has a card already.

    Raises:
        TypeError, ValueError: as :func:`ndrnn.save`.
    """
    folder = Path(folder)
    name_of(model)  # no folder for what cannot be saved
    folder.mkdir(parents=True, exist_ok=True)
    save(model, folder / MODEL_FILE)
    if card or not (folder / CARD_FILE).exists():
        with replacing(folder / CARD_FILE) as temporary:
            temporary.write_text(card or _card_of(model), encoding="utf-8")


def from_pretrained(
    name: str | PathLike[str],
    *,
    revision: str | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> nn.Module:
    """The model in a folder, of the hub, or one that ships with the package; in evaluation mode.

    Args:
        name: a folder or file that is there, the name of a model that ships, or else a repository of the hub such as
            ``"someone/reader"``.
        revision: a branch, tag or commit of the repository.
        device: where it goes.
        **options: for ``huggingface_hub.hf_hub_download``, such as ``token``, ``cache_dir`` and ``local_files_only``.

    Raises:
        FileNotFoundError: there is no such thing.
        ValueError: the file is none of ours, see :func:`ndrnn.load`.
        ImportError: the hub is asked for and ``huggingface_hub`` is not installed.
    """
    known = Path(name).exists() or str(name) in shipped.names() or Path(name).suffix == ".safetensors"
    if known or not _REPOSITORY.fullmatch(str(name)):
        return load(name, device)
    found = _hub().hf_hub_download(str(name), MODEL_FILE, revision=revision, library_name="ndrnn", **options)
    return load(found, device)


def push_to_hub(
    model: nn.Module,
    repository: str,
    *,
    card: str = "",
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    message: str = "Model of ndrnn",
) -> str:
    """Send a model to the hub; the repository is made if it is not there.

    Args:
        model: a registered model.
        repository: such as ``"someone/reader"``.
        card: Markdown, such as ``ndrnn card RUN`` prints.
        private: whether a new repository is.
        token: of the account, by default that of ``hf auth login``.
        revision: the branch.
        message: of the commit.

    Returns:
        The address of what was sent.
    """
    api = _hub().HfApi(token=token)
    with TemporaryDirectory() as folder:
        save_pretrained(model, folder, card=card)
        made = api.create_repo(repository, private=private, exist_ok=True)
        # a card that is there says more than one that was made up here
        kept = [] if card or not api.file_exists(made.repo_id, CARD_FILE, revision=revision) else [CARD_FILE]
        sent = api.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            commit_message=message,
            revision=revision,
            ignore_patterns=kept,
        )
    return str(sent)


def card_text(
    title: str, lines: Sequence[str], *, license: str = "", head: Mapping[str, str] | None = None
) -> str:
    """A card: the head that the hub reads, a title, paragraphs, the licence, and how the model is loaded."""
    told = {**({"license": license} if license else {}), "library_name": "ndrnn", **(head or {})}
    front = "\n".join(f"{key}: {value}" for key, value in told.items())
    licensed = (
        f"Licence of the weights: {license}." if license else "The licence of the weights is not stated."
    )
    use = '```python\nimport ndrnn\n\nmodel = ndrnn.load("the folder of this card")\n```'
    return "\n\n".join([f"---\n{front}\n---", f"# {title}", *lines, licensed, use]) + "\n"


def _card_of(model: nn.Module) -> str:
    weights = sum(weight.numel() for weight in model.parameters())
    return card_text(
        name_of(model),
        [f"A model of ndrnn, recurrent networks over n-dimensional data; {weights:,} weights."],
    )


def _hub() -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise ImportError("the hub needs huggingface_hub: pip install 'ndrnn[hub]'") from error
    return huggingface_hub
