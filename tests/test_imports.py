"""Every module imports without TensorFlow, without the network, and in the right direction."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import REPOSITORY, process_environment

PACKAGE = REPOSITORY / "jaxgen"
MODULES = sorted(
    ".".join(p.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    for p in PACKAGE.rglob("*.py")
    if p.name != "__main__.py"
)

BLOCKED = """
import importlib, socket, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)

sys.meta_path.insert(0, Refuse())

def no_network(*args, **kwargs):
    raise AssertionError(f"network use at import: {args}")

socket.create_connection = socket.getaddrinfo = no_network
socket.socket.connect = no_network
for name in sys.argv[1:]:
    importlib.import_module(name)
assert "tensorflow" not in sys.modules
print("imported", len(sys.argv) - 1)
"""


def test_all_modules_without_tensorflow_and_network():
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *MODULES],
        cwd=REPOSITORY, env=process_environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == str(len(MODULES))


def test_importing_jaxgen_and_its_command_is_light():
    code = (
        "import sys, jaxgen, jaxgen.cli; "
        "print([m for m in ('jax', 'grain', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY, env=process_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# Rooms from the ground up: a module imports from its own floor or from lower ones.
FLOORS = [
    {"errors", "task", "cache", "log", "config", "grid", "heap", "model_card"},
    {"weights", "keymap", "layout"},
    {"nn", "losses", "metrics", "encoders", "data", "upscale", "generate"},
    {"tasks"},
    {"models"},
    {"train"},
    {"run", "model_base", "model_generate", "verbs", "places", "convert", "interpolation"}
    | {"upscale_files", "generate_files", "sweep", "text_features"},
    {"main", "cli", "__main__", "__init__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    path = REPOSITORY / (module.replace(".", "/") + ".py")
    if not path.exists():
        path = REPOSITORY / module.replace(".", "/") / "__init__.py"
    room = room_of(module)
    for name in imported(path):
        other = room_of(name)
        assert FLOOR[other] <= FLOOR[room], f"{module} (floor of {room}) imports {name}"
        if room == "train":
            assert other != "models", "the trainer knows no family"


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(path: Path) -> set[str]:
    """Names of jaxgen's modules that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("jaxgen.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "jaxgen":
            found |= {f"jaxgen.{a.name}" for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxgen."):
            found.add(node.module)
    # `from jaxgen import __version__` is the package itself.
    return {name for name in found if room_of(name) in FLOOR or name.count(".") > 1}
