"""A run on two workers, from set-up to stop: a stand-in for gcloud works in two local folders."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import SCRIPTS, run_script, script_environment

GCLOUD = r"""
import os, pathlib, shutil, subprocess, sys
root = pathlib.Path(os.environ["FAKE_WORKERS"])
flags = dict(a.split("=", 1) for a in sys.argv[1:] if a.startswith("--") and "=" in a)
verb = sys.argv[4]
workers = ["0", "1"] if flags["--worker"] == "all" else [flags["--worker"]]
codes = []
for worker in workers:
    home = root / worker
    if verb == "scp":
        shutil.copy(sys.argv[5], home / sys.argv[6].split(":")[1])
        continue
    done = subprocess.run(["bash", "-c", flags["--command"]], cwd=home, stdin=subprocess.DEVNULL,
                          env=os.environ | {"HOME": str(home)}, stdout=subprocess.PIPE, text=True)
    if "--output-directory" in flags:
        (pathlib.Path(flags["--output-directory"]) / f"{worker}.log").write_text(done.stdout)
    else:
        print(done.stdout, end="")
    codes.append(done.returncode)
sys.exit(max(codes, default=0))
"""

# Stands for the workers' `python3`: makes a "virtual environment" whose python records what it is
# asked, and trains by sleeping until SIGTERM, then saving and exiting with 0, as jaxgen does.
PYTHON3 = r"""#!/bin/bash
if [ "$1" = -m ] && [ "$2" = venv ]; then
  mkdir -p "$3/bin"
  cat > "$3/bin/python" <<'END'
#!/bin/bash
echo "$@" >> "$HOME/calls"
[ "$2" = jaxgen.main ] || exit 0
echo "training, GREETING=$GREETING"
[ "${FINISH:-0}" = 0 ] || exit "$((FINISH - 1))"
trap 'echo saved; kill $sleeper; exit 0' TERM
sleep 60 & sleeper=$!
echo ready
wait
END
  chmod +x "$3/bin/python"
fi
"""


@pytest.fixture
def cloud(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with a "gcloud" and two "workers" that have jaxgen set up."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("gcloud", f"#!{sys.executable}\n{GCLOUD}"), ("python3", PYTHON3)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    for worker in "01":
        (tmp_path / worker).mkdir()
    source = tmp_path / "source"
    shutil.copytree(SCRIPTS, source / "tpu_scripts")
    git = ["git", "-C", str(source), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git[:3], "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "scripts"], check=True)
    env = {
        "FAKE_WORKERS": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "TPU_NAME": "sr",
        "TPU_ZONE": "z",
    }
    done = subprocess.run(
        ["bash", str(source / "tpu_scripts/setup_tpu.sh")],
        env=script_environment(env, tools),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return env


def _wait_for(path: Path, text: str) -> None:
    for _ in range(200):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"no {text!r} in {path}")


def test_setup_installs_with_the_pins_on_every_worker(cloud: dict[str, str]):
    for worker in "01":
        home = Path(cloud["FAKE_WORKERS"]) / worker
        assert (home / "jaxgen/tpu_scripts/worker.sh").exists()
        assert (home / "calls").read_text() == (
            "-m pip install --quiet -c constraints.txt -e .[tpu]\n"
        )


def test_run_outlives_its_connection_and_stops_after_saving(cloud: dict[str, str], tmp_path: Path):
    args = ["--config=c.py", "--workdir=w", "--env=GREETING=hello world"]
    done = run_script("run_tpu.sh", *args, "--", "--config.x=1", env=cloud, tools=tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    logs = [tmp_path / w / "jaxgen-run/train.log" for w in "01"]
    for log in logs:
        _wait_for(log, "ready")
    again = run_script("run_tpu.sh", *args, env=cloud, tools=tmp_path / "bin")
    assert again.returncode != 0
    assert "a run is active on this worker" in again.stderr
    assert run_script("run_tpu.sh", "--stop", env=cloud, tools=tmp_path / "bin").returncode == 0
    done = run_script("logs_tpu.sh", f"--out={tmp_path}/logs", env=cloud, tools=tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    for worker in "01":
        text = (tmp_path / "logs" / f"{worker}.log").read_text()
        assert "training, GREETING=hello world" in text
        assert text.rstrip().endswith("saved")
        calls = (tmp_path / worker / "calls").read_text().splitlines()
        assert calls[-1] == "-m jaxgen.main --config=c.py --workdir=w --distributed=on --config.x=1"
        assert (tmp_path / worker / "jaxgen-run/status").read_text() == "143\n"


@pytest.mark.parametrize("status", [0, 3])
def test_waiting_run_reports_the_trainers_status(
    cloud: dict[str, str], tmp_path: Path, status: int
):
    args = ["--config=c.py", "--workdir=w", f"--env=FINISH={status + 1}", "--wait"]
    done = run_script("run_tpu.sh", *args, env=cloud, tools=tmp_path / "bin")
    assert done.returncode == status, done.stderr
    assert done.stdout.count("training") == 2  # both workers' logs are shown


def test_supervisor_reports_a_saved_stop_as_unfinished(tmp_path: Path):
    """A trainer that saves on SIGTERM exits with 0; the supervisor must not."""
    saving = "trap 'sleep 0.5; touch saved; exit 0' TERM; touch up; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        ["bash", str(SCRIPTS / "worker.sh"), "supervise", "bash", "-c", saving],
        env=os.environ | {"HOME": str(tmp_path)},
        cwd=tmp_path,
    )
    for _ in range(200):
        if (tmp_path / "up").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    assert (tmp_path / "saved").exists()  # it waited for the save


@pytest.mark.parametrize("status", [0, 7])
def test_supervisor_passes_the_status_on(tmp_path: Path, status: int):
    env = {"HOME": str(tmp_path)}
    done = run_script("worker.sh", "supervise", "bash", "-c", f"exit {status}", env=env)
    assert done.returncode == status
