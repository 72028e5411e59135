"""Weights from the Hugging Face hub, where a user names one: `hf:OWNER/NAME`.

Nothing else in jaxgen touches the network for weights. `huggingface_hub` does the work: interrupted
downloads go on, files that are there are not fetched again, `HF_ENDPOINT`, `HF_TOKEN` and
`HF_HUB_OFFLINE` mean what they mean everywhere.
"""

from __future__ import annotations

import re
from pathlib import Path

from jaxgen import cache
from jaxgen.errors import UserError

PREFIX = "hf:"
_NAME = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:]+))?(?::(?P<file>.+))?")
# Of the same network: the ones that hold no code come first, and only they are fetched if there.
SAFE, OTHERS = ("*.safetensors",), ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.npz")
_WEIGHTS = {Path(pattern).suffix for pattern in (*SAFE, *OTHERS)}
BESIDE = ("*.json", "*.txt", "*.gz")  # configs and vocabularies


def is_named(source: str | Path) -> bool:
    """Whether a source means a repository of the hub."""
    return str(source).startswith(PREFIX)


def fetch(source: str) -> Path:
    """The local copy of `hf:OWNER/NAME[@REVISION][:FILE]`, downloaded where it is not yet.

    Returns: its folder, the file that was named, or the only one of weights.

    Raises:
      UserError: not such a name, no such repository, revision or file, one that may not be read, or
        no network; one line each.
    """
    found = _NAME.fullmatch(source)
    if found is None:
        raise UserError(f"{source!r} is no hf:OWNER/NAME, hf:OWNER/NAME@REVISION or ...:FILE")
    from huggingface_hub import HfApi, errors, snapshot_download

    repo, revision, file = found["repo"], found["revision"], found["file"]
    try:
        names = [file] if file else _wanted(HfApi().list_repo_files(repo, revision=revision))
        folder = snapshot_download(
            repo, revision=revision, allow_patterns=names, cache_dir=cache.root() / "hub"
        )
    except errors.RevisionNotFoundError:
        raise UserError(f"{source}: the hub has no revision {revision!r} of {repo}") from None
    except errors.GatedRepoError:
        raise UserError(
            f"{source}: its owner wants you to agree to terms; do so on its page, then set HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{source}: the hub has no model of this name, or it is private: set HF_TOKEN"
        ) from None
    except Exception as error:
        if not _of_network(error):
            raise
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{source}: can't be downloaded ({why[0]}); the same command goes on where it stopped, "
            "or give a folder that is here"
        ) from None
    if file is None and len(only := [n for n in names if Path(n).suffix in _WEIGHTS]) == 1:
        file = only[0]
    path = Path(folder, file or "")
    if not path.exists():
        raise UserError(f"{source}: {repo} has no file {file}")
    return path


def _of_network(error: Exception) -> bool:
    """Whether a download failed of the network or the disk; HTTP clients have own errors."""
    modules = {base.__module__.partition(".")[0] for base in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & {"httpx", "httpx2", "requests"})


def _wanted(names: list[str]) -> list[str]:
    """Of all files of a repository those that a conversion reads.

    Raises:
      UserError: it holds no weights.
    """

    def like(patterns: tuple[str, ...]) -> list[str]:
        return [n for n in names if any(Path(n).match(pattern) for pattern in patterns)]

    stems = {n.rpartition(".")[0] for n in like((*SAFE, *OTHERS))}

    def plain(name: str) -> bool:
        """Not a copy for other uses, or in half precision of a file that is there, too."""
        stem = name.rpartition(".")[0]
        if stem.endswith((".non_ema", ".bf16")):
            return False
        return not stem.endswith(".fp16") or stem.removesuffix(".fp16") not in stems

    weights = [n for n in like(SAFE) if plain(n)] or [n for n in like(OTHERS) if plain(n)]
    if not weights:
        raise UserError(f"it holds no weights that are known here: {', '.join(sorted(names)[:6])}")
    return [*weights, *like(BESIDE)]
