"""`hf:OWNER/NAME`, against a hub at loopback."""

import json
import subprocess
import sys

import pytest
from helpers import process_environment
from support.hub_server import Hub

from jaxgen.errors import UserError
from jaxgen.weights import hub

WEIGHTS = bytes(range(256)) * 96_000  # 24 MB: it is fetched in pieces of 10
FILES = {
    "config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": WEIGHTS,
    "vae/diffusion_pytorch_model.safetensors": b"small",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
    "unet/diffusion_pytorch_model.bin": b"a pickle",
    "tokenizer/vocab.json": b"{}",
    "README.md": b"# words",
}
# huggingface_hub reads its settings when it is imported: each fetch has a process of its own.
CODE = """
import json, sys
from jaxgen.errors import UserError
from jaxgen.weights import hub
try:
    path = hub.fetch(sys.argv[1])
    files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
    print(json.dumps({str(f.relative_to(path)): f.stat().st_size for f in files}))
except UserError as error:
    print(json.dumps(str(error)))
"""


def fetch(source, url, tmp_path, **environment):
    found = subprocess.run(
        [sys.executable, "-c", CODE, source],
        env={
            **process_environment(), "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1", "JAXGEN_CACHE": str(tmp_path), **environment,
        },
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.fixture
def server():
    with Hub(FILES).running() as running:
        yield running


def test_weights_configs_and_vocabularies_come_and_nothing_else(server, tmp_path):
    found = fetch("hf:owner/tiny", server.url, tmp_path)
    assert set(found) == {
        "config.json", "unet/diffusion_pytorch_model.safetensors", "tokenizer/vocab.json",
        "vae/diffusion_pytorch_model.safetensors",
    }  # fmt: skip
    assert found["unet/diffusion_pytorch_model.safetensors"] == len(WEIGHTS)
    # Without a network what is there is enough.
    server.asked.clear()
    again = fetch("hf:owner/tiny:config.json", server.url, tmp_path)
    assert again == {".": 2}
    assert not [one for one in server.asked if one[0] == "GET" and "resolve" in one[1]]


def test_a_download_that_broke_goes_on(server, tmp_path):
    server.breaks = 15_000_000
    fetch("hf:owner/tiny", server.url, tmp_path)
    found = fetch("hf:owner/tiny", server.url, tmp_path)
    assert found["unet/diffusion_pytorch_model.safetensors"] == len(WEIGHTS)
    spans = [span for _, path, span in server.asked if path.endswith("model.safetensors") and span]
    assert any(int(span[6:].partition("-")[0]) > 0 for span in spans), server.asked


def test_files_with_code_come_only_where_nothing_else_is():
    assert hub._wanted(["a.bin", "a.safetensors", "x.json"]) == ["a.safetensors", "x.json"]
    assert hub._wanted(["a.ckpt", "x.txt"]) == ["a.ckpt", "x.txt"]
    assert hub._wanted(["a.bin", "a.fp16.bin", "a.non_ema.bin"]) == ["a.bin"]
    assert hub._wanted(["a.bin", "a.fp16.safetensors"]) == ["a.bin"]
    assert hub._wanted(["a.safetensors", "b.fp16.safetensors"]) == [
        "a.safetensors", "b.fp16.safetensors",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"no weights that are known here: a\.md"):
        hub._wanted(["a.md"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:owner/other", "no model of this name, or it is private"),
        ("hf:owner/tiny@never", "no revision 'never' of owner/tiny"),
        ("hf:owner/tiny:nothing.safetensors", "has no file nothing.safetensors"),
        ("hf:owner", "is no hf:OWNER/NAME"),
    ],
)
def test_what_is_not_there_is_one_line(server, tmp_path, source, message):
    found = fetch(source, server.url, tmp_path)
    assert message in found
    assert "\n" not in found


@pytest.mark.parametrize("offline", ["0", "1"])
def test_without_a_network_one_line(tmp_path, offline):
    found = fetch("hf:owner/tiny", "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE=offline)
    assert found.startswith("hf:owner/tiny: can't be downloaded (")
    assert "\n" not in found


def test_paths_are_no_names():
    assert hub.is_named("hf:a/b")
    assert not hub.is_named("hf/a/b")
