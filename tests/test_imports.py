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


# What configs and lists of models have no need of; each costs a good part of a second.
HEAVY = ("jax", "flax", "grain", "optax", "orbax", "tensorflow_datasets", "matplotlib", "scipy")
CALL = """
import sys
from jaxgen.cli import main
sys.argv = ["jaxgen", {!r}]
try:
    main()
except SystemExit as done:
    assert not done.code
"""
LIGHT = {
    "import jaxgen, jaxgen.cli": "import jaxgen, jaxgen.cli",
    "jaxgen --help": CALL.format("--help"),
    "jaxgen models": CALL.format("models"),
    "import jaxgen.tasks.sr.config": "import jaxgen.tasks.sr.config",
    "import jaxgen.tasks.t2i.config": "import jaxgen.tasks.t2i.config",
    "import jaxgen.tasks.autoencoder.config": "import jaxgen.tasks.autoencoder.config",
    "import jaxgen.tasks.tirg.config": "import jaxgen.tasks.tirg.config",
    "every config": """
import importlib.util
from pathlib import Path
from jaxgen import config
for path in sorted(Path("configs").glob("*.py")):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for variant in module.VARIANTS:
        config.check(config.load(f"{path}:{variant}"))
""",
}


@pytest.mark.parametrize("what", LIGHT)
def test_configs_and_lists_need_no_jax(what):
    code = f"{LIGHT[what]}\nimport sys\nprint([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY, env=process_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr


# The one import order, from the ground up: a module imports from rooms before its own and from its
# own. Rooms in one set do not import each other.
ORDER: list[set[str]] = [
    {"errors"}, {"log", "backend", "whole"}, {"cache"}, {"keys", "shipped", "glossary"},
    {"user_file"}, {"config"}, {"grid"}, {"heap"}, {"devices"}, {"task"},
    {"data", "diffusion"},
    {"weights"},
    {"train"},
    {"nn"},
    {"losses", "encoders"},
    {"metrics", "edit"},
    {"verbs"},
    {"evaluation"},
    {"tasks"},
    {"models"},
    {"runs"},
    {"page"},
    {"cli", "main", "run"},
    {"__main__", "__init__"},
]  # fmt: skip
FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}
# Rooms that the next systems bring; until then their names are free.
TO_COME = {"page"}


def test_every_room_is_listed():
    rooms = {room_of(module) for module in MODULES} | {"__main__"}
    assert rooms <= FLOOR.keys(), "a new room takes its place in ORDER and in docs/architecture.md"
    assert FLOOR.keys() - rooms <= TO_COME, "a room in ORDER that there is not"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    path = REPOSITORY / (module.replace(".", "/") + ".py")
    if not path.exists():
        path = REPOSITORY / module.replace(".", "/") / "__init__.py"
    room = room_of(module)
    for name in imported(path):
        other = room_of(name)
        assert other == room or FLOOR[other] < FLOOR[room], f"{module} ({room}) imports {name}"


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
            # `from jaxgen import __version__` is the package itself.
            found |= {f"jaxgen.{a.name}" for a in node.names if a.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxgen."):
            found.add(node.module)
    return found
