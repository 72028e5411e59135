"""The configs that come with jaxgen: `configs/` of a checkout, or its copy in the package."""

from __future__ import annotations

import ast
import difflib
from pathlib import Path


def folder() -> Path:
    """Where they are."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "configs"
    is_checkout = (package.parent / "pyproject.toml").is_file() and checkout.is_dir()
    return checkout if is_checkout else package / "configs"


def names() -> list[str]:
    """Their names, such as "srgan"."""
    return sorted(path.stem for path in folder().glob("*.py"))


def variants(name: str) -> dict[str, str]:
    """{variant: what a run of it takes} of a shipped config, from its text: nothing is run."""
    tree = ast.parse((folder() / f"{name}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COSTS":
            return dict(ast.literal_eval(node.value))
    return {}


def headline(name: str) -> str:
    """The first line of a shipped config's docstring."""
    tree = ast.parse((folder() / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def find(file: str) -> str:
    """The path of a config; of `NAME` and `configs/NAME.py` the shipped one's, where none is here.

    A file that is nowhere keeps its path.
    """
    path = Path(file)
    if file.isidentifier() and not path.exists():
        path = Path("configs", f"{file}.py")
    if path.exists() or path.parent != Path("configs"):
        return str(path)
    found = folder() / path.name
    return str(found) if found.is_file() else str(path)


def near(file: str) -> str:
    """ "; did you mean NAME?" of a file that is nowhere, or where the names are listed."""
    found = difflib.get_close_matches(Path(file).stem, names(), n=1)
    return f"; did you mean {found[0]}?" if found else "; `jaxgen configs` lists the shipped ones"
