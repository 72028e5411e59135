"""Shared settings: eight fake CPU devices, strict rank promotion, paths of benchmark data."""

import gc
import importlib
import os
import sys
from pathlib import Path

# Before jax is imported: the device count is fixed at its first use.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    # Most of the tests' time would be LLVM optimising tiny programs.
    + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    # And of what is left, making an MLIR context for each fused loop: 40 % of a lone operation.
    + " --xla_cpu_use_fusion_emitters=false"
)
# What is traced is millions of small objects, and jax adds work to each collection of the youngest.
gc.set_threshold(50_000, 10, 10)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
REPOSITORY = Path(__file__).resolve().parent.parent
# Compiled programs and prepared photos: kept between test runs, shared by xdist's workers, and
# apart from the user's own.
os.environ.setdefault("JAXGEN_CACHE", str(REPOSITORY / ".pytest_cache" / "jaxgen"))
sys.path.insert(0, str(REPOSITORY))

import jax  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "float32")
# Grain's worker processes read absl flags.
if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


def _folder(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{variable} is not set: it names the folder of benchmark data")
    return Path(path)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real benchmark images and weights."""
    return _folder("JAXGEN_DATA")


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Folder of golden arrays."""
    return _folder("JAXGEN_FIXTURES")


@pytest.fixture(autouse=True)
def _log_of_its_own():
    """What a test sets up of the log is not there for the next, as in processes of their own."""
    from jaxgen.log import log

    before, propagate = list(log.handlers), log.propagate
    yield
    for handler in [one for one in log.handlers if one not in before]:
        log.removeHandler(handler)
    log.propagate = propagate


@pytest.fixture
def jaxgen_command(monkeypatch, capsys, tmp_path):
    """Calls the command in this process and in `tmp_path`: (exit code, stdout, stderr)."""
    from jaxgen import cli
    from jaxgen.log import log

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # the command sets its own

    def call(*args):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["jaxgen", *map(str, args)])
            # What one sets up is not there for the next, as in processes of their own.
            patch.setattr(log, "handlers", [])
            patch.setattr(log, "propagate", True)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


# The dearest checks: slow for a family whose losses and phases another's tests go through, too,
# which it says itself by `LIKE`.
_LONG_CHECKS = (
    "test_every_loss_falls_on_one_batch",
    "test_sharded_equals_single",
    "test_bfloat16_run_stays_finite_with_float32_weights",
)
# Of these the last two ask the trainer more than the family: not slow for one.
_OF_THE_TRAINER = _LONG_CHECKS[1:]
_KINDS = ("srgan",)


# Rooms of tests that train or convert whole networks, and single files of other rooms that take
# longest: not of the quick selection.
_LONG = (
    "families", "encoders", "train", "test_text_part", "test_convert",
    "test_convert_real", "test_nn_conv",
    "test_platforms", "test_old_runs", "test_t2i_task", "test_fuzz_commands", "test_cli_shards",
    "test_slurm", "test_autoencoder", "test_complete", "test_t2i_losses",
)  # fmt: skip
# Of these rooms, what is quick and tells most.
_QUICK = ("test_step", "test_owner", "test_writers", "test_mesh")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks these slow, and whole rooms as what they are. A file's tests share a worker, and what
    it made."""
    for item in items:
        where = {item.path.parent.name, item.path.stem}
        if where.intersection(_LONG) and not where.intersection(_QUICK):
            item.add_marker(pytest.mark.family)
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        check = getattr(item, "originalname", "")
        if check in _LONG_CHECKS:
            name = item.callspec.params["family"]
            family = importlib.import_module(f"jaxgen.models.{name}")
            if hasattr(family, "LIKE") or (check in _OF_THE_TRAINER and name not in _KINDS):
                item.add_marker(pytest.mark.slow)
