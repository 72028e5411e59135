"""What the documentation says can be typed: its config keys, flags, variants and links exist."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

from jaxgen import config as configs
from jaxgen.train import family

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tpu_scripts/*.md")])
MAIN_FLAGS = {"config", "workdir", "mode", "debug", "distributed", "device"}


# The package's own pages, and its modules: docstrings name others.
TEXTS = sorted(
    path
    for pattern in ("jaxgen/**/*.md", "jaxgen/**/*.py", "configs/*.py", "benchmarks/*.py")
    for path in ROOT.glob(pattern)
)


def _ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def keys() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "configs").glob("*.py"):
        config = configs.load(path)
        config = family.completed(config, config)
        # Sections that a config fills (train.init_from) have no leaves of their own.
        found |= set(configs.flatten(config)) | {f"train.{key}" for key in config.train}
    return found


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_names_of_ours_exist():
    """`jaxgen.room.module.name` in back-quotes, and what a page's program imports."""
    unknown = []
    for path in TEXTS:
        text = path.read_text()
        found = re.findall(r"`(jaxgen(?:\.\w+)+)[^`\n]*`", text)
        if path.suffix == ".md":  # a program in a page
            for module, names in re.findall(r"^\s*from (jaxgen[\w.]*) import (.+)$", text, re.M):
                found += [f"{module}.{name.split()[0]}" for name in names.split(",")]
        unknown += [f"{_ids(path)}: {name}" for name in set(found) if not _exists(name)]
    assert not unknown, "\n".join(unknown)


def _exists(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        # A dataclass's field without a default is no attribute of the class.
        owner, _, field = name.rpartition(".")
        return (
            "." in owner
            and _exists(owner)
            and field in getattr(pkgutil.resolve_name(owner), "__annotations__", {})
        )
    return True


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_files_named_in_text_exist(page: Path):
    rooms = "tests|jaxgen|configs|benchmarks"
    for name in re.findall(rf"`((?:{rooms})/[\w/]+\.(?:py|md|json))`", page.read_text()):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_overrides_name_existing_keys(page: Path, keys: set[str]):
    text = page.read_text()
    named = set(re.findall(r"--config\.([a-z0-9_.]*[a-z0-9_])=", text))
    # `train.batch_size=64` and the like in running text and tables.
    sections = "|".join(sorted({key.split(".")[0] for key in keys if "." in key}))
    named |= set(re.findall(rf"`((?:{sections})\.[a-z0-9_.]*[a-z0-9_])(?:=[^`]*)?`", text))
    known = keys | {key.rsplit(".", i)[0] for key in keys for i in (1, 2)}
    unknown = sorted(k for k in named if k not in known and "PHASE" not in k)
    assert not unknown, f"{page.name} names config keys that do not exist: {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_config_files_and_variants_exist(page: Path):
    for name in set(re.findall(r"configs/[a-z_]+\.py(?::[a-z0-9_]+)?", page.read_text())):
        configs.load(ROOT / name)


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_flags_of_main_exist(page: Path):
    text = page.read_text().replace("\\\n", " ")
    for line in re.findall(r"python3? -m jaxgen\.main([^\n`]*)", text):
        flags = set(re.findall(r"--([a-z_]+)", line))
        assert flags <= MAIN_FLAGS, f"{page.name}: {line}"


def test_the_test_command_is_where_ci_looks_for_it():
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"<!-- test-command -->\s*```[a-z]*\n(.*?)\n```", readme, re.DOTALL)
    assert block, "README.md needs <!-- test-command --> before the block of its test command"
    command = block[1]
    assert "pip install -c constraints.txt" in command
    assert command.rstrip().endswith("pytest -n auto")


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_python_names_exist(page: Path):
    text = page.read_text()
    for line in re.findall(r"^(?:from|import) jaxgen.*$", text, re.MULTILINE):
        exec(line, {})
    for name in set(re.findall(r"`(jaxgen(?:\.\w+)+)", text)):
        pkgutil.resolve_name(name)
