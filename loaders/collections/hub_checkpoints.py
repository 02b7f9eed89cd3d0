"""Checkpoints of model repositories on the Hub, whose tensors are read by HTTP ranges.

Config, index, tokenizer and adapters are downloaded to the cache of the Hub client. Of safetensors
files the header is read and checked first, then windows of bytes as tensors are asked for.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

from ...zoos.errors import ZooFormatError, ZooNotFoundError
from ...zoos.hub.byte_ranges import HubBytes
from ...zoos.hub.requests import hub_errors, patiently
from ...zoos.tensors.checkpoint_folder import (
    INDEX_NAME,
    SIDE_FILES,
    CheckpointFolder,
    open_remote_checkpoint,
)
from ..hub.fetching import is_hub_path

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_ADDRESS = re.compile(r"(?:hf://)?(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_hub_model(path: Path | str) -> bool:
    """Whether a path names a model repository: "hf://org/name", or "org/name" that is no path."""
    text = str(path)
    if text.startswith("hf:/"):
        return isinstance(path, str) and not text.startswith("hf://datasets/")
    return isinstance(path, str) and is_hub_path(text.partition("@")[0])


def fetch_checkpoint(address: str) -> CheckpointFolder | Path:
    """Open the checkpoint of a model repository at one commit, or download its LoRA adapter.

    Args:
        address: "org/name" or "hf://org/name", with "@revision" for another than `main`.

    Returns:
        The open checkpoint; of an adapter the folder that holds it.

    Raises:
        ZooNotFoundError: if there is no such repository or revision, or a shard is missing.
        ZooFormatError: if the address is none, or a header is damaged.
        HubError: if the Hub cannot be reached.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ZooFormatError(
            f"{address!r} is no address of a model: write org/name or hf://org/name[@revision]"
        )
    repo = match["repo"]
    commit, sizes = _listed(repo, match["revision"])
    adapter = set(ADAPTER_FILES) <= set(sizes)
    wanted = ADAPTER_FILES if adapter else (INDEX_NAME, *SIDE_FILES)
    there = [name for name in wanted if name in sizes]
    folder = None
    for name in there:
        folder = _download(repo, commit, name).parent
    if adapter and folder is not None:
        return folder
    weights = sorted(name for name in sizes if name.endswith(".safetensors"))
    if folder is None:
        raise ZooNotFoundError(
            f"{repo} holds no config.json: name a repository in the layout of transformers"
        )
    sources = {name: HubBytes(repo, commit, name, sizes[name]) for name in weights}
    return open_remote_checkpoint(folder, sources, f"hf://{repo}@{commit}")


def _listed(repo: str, revision: str | None) -> tuple[str, dict[str, int]]:
    """The commit, and the sizes of the files at the top of the repository."""
    from huggingface_hub import HfApi

    api = HfApi()
    with hub_errors(repo, "model"):
        commit = str(patiently(partial(api.model_info, repo, revision=revision)).sha)

        def tree() -> list[Any]:
            return list(api.list_repo_tree(repo, revision=commit))

        entries = patiently(tree)
    return commit, {entry.path: entry.size for entry in entries if hasattr(entry, "size")}


def _download(repo: str, commit: str, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    with hub_errors(repo, "model"):
        return Path(patiently(partial(hf_hub_download, repo, name, revision=commit)))
