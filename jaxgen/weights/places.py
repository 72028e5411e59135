"""Where trained models lie: run directories, exported folders, and the bundled ones."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.weights.files import parse_json, parse_number

BUNDLED = Path(__file__).resolve().parent.parent / "bundled"
CONFIG, WEIGHTS, CARD = "config.json", "weights.safetensors", "README.md"
CHECKPOINTS = "checkpoints"
VQGAN_CLIP = "vqgan-clip"  # alone or with a colon: two models put together, no place


def resolve(name_or_path: str | Path) -> Path:
    """The folder that a name or path means; reads nothing of it.

    Raises:
      UserError: nothing there, or a folder that is neither a run nor an exported model.
    """
    text = str(name_or_path)
    path = Path(text).expanduser()
    if path.name in (WEIGHTS, CONFIG) and path.is_file():
        path = path.parent
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise UserError(
                f"{path} is neither a run nor an exported model: it has no {CONFIG}"
                + _near_runs(path)
            )
        if not (path / WEIGHTS).is_file() and not (path / CHECKPOINTS).is_dir():
            raise UserError(
                f"{path} has no finished checkpoint yet; train it first: "
                "python -m jaxgen.main --config=... --workdir=" + str(path)
            )
        return path.absolute()
    names = bundled_names()
    if text in names:
        return BUNDLED / text
    if path.exists():
        raise UserError(f"{path} is a file; give the folder of a run or of an exported model")
    near = difflib.get_close_matches(text, [*names, *_siblings(path)], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    known = f"bundled models: {', '.join(names)}" if names else "no model is bundled"
    raise UserError(f"no model {text!r}{hint}; give a run's folder or a name ({known})")


def is_composed(name: str | Path) -> bool:
    """Whether a model's name means several put together; a path that exists comes before."""
    return str(name).partition(":")[0] == VQGAN_CLIP and not Path(name).exists()


def bundled_names() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(p.name for p in BUNDLED.glob("*") if is_export(p))


def list_models() -> list[dict[str, Any]]:
    """One row per bundled model: name, family, verbs, parameters, step, metrics, headline.

    Reads headers only, no weights. `verbs`: what it does, each with its facts, such as
    {"upscale": {"scale": 4}}; `headline` is the card's first sentence.
    """
    rows = []
    for name in bundled_names():
        folder = BUNDLED / name
        facts = weights.read_metadata(folder / WEIGHTS)
        rows.append(
            {
                "name": name,
                "family": facts.get("family", configs.from_json(folder / CONFIG).family),
                "verbs": parse_json(facts.get("verbs")),
                "parameters": parse_number(facts.get("parameters")),
                "step": parse_number(facts.get("step")),
                "metrics": parse_json(facts.get("metrics")),
                "headline": _headline(folder / CARD),
            }
        )
    return rows


def that_do(verb: str) -> str:
    """ "; bundled models that do: NAME, NAME", of a verb's name; "" where none does."""
    able = [row["name"] for row in list_models() if verb in (row["verbs"] or {})]
    return f"; bundled models that do: {', '.join(able)}" if able else ""


def _headline(card: Path) -> str:
    """First paragraph of a model card after its title."""
    if not card.is_file():
        return ""
    paragraphs = card.read_text(encoding="utf-8").split("\n\n")
    return next((" ".join(p.split()) for p in paragraphs if p.strip() and p[0] != "#"), "")


def is_export(folder: Path) -> bool:
    """Whether a folder is an exported model."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def _is_run(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / CHECKPOINTS).is_dir()


def _near_runs(folder: Path) -> str:
    """ "runs" was given where "runs/srgan" was meant."""
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and (_is_run(p) or is_export(p)))
    return f"; did you mean {inside[0]}?" if inside else ""


def _siblings(path: Path) -> list[str]:
    """Runs beside a path that does not exist, as the user would write them."""
    if not path.parent.is_dir():
        return []
    return [str(p) for p in path.parent.iterdir() if p.is_dir() and (_is_run(p) or is_export(p))]
