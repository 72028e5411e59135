"""Many small tasks: the commands of an array's tasks and of a JobSet's pods."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from helpers import SCRIPTS, run_script, script_environment


def test_slurm_array_commands():
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16"}
    task |= {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "16"}
    srun = "srun --ntasks=1 .venv/bin/python -m jaxgen"

    def dry(*args: str, **changes: str) -> list[str]:
        done = run_script("slurm_array.sbatch", "--dry-run", *args, env=task | changes)
        return (done.stdout or done.stderr).splitlines()

    words = ["--", "upscale", "my photos", "-o", "out"]
    assert dry(*words) == [f"{srun} upscale 'my photos' -o out --shard=3/16"]
    assert dry("--python=py", "--", "eval", "upscale", "--data=set", "--json=out/{}.json") == [
        "srun --ntasks=1 py -m jaxgen eval upscale --data=set --json=out/3.json --shard=3/16"
    ]
    # A sweep's tasks share the study, not a list.
    sweep = ["sweep", "--config=c.py", "--storage=journal"]
    assert dry("--", *sweep) == [f"{srun} {' '.join(sweep)}"]
    # Some of the shards again: how many there are has to be said.
    some = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "3"}
    assert dry(*words, **some) == [
        "error: the array is not 1-2; to do some of the shards, say of how many: --shards=N"
    ]
    assert dry("--shards=16", *words, **some) == [f"{srun} upscale 'my photos' -o out --shard=3/16"]
    assert dry("--shards=2", *words) == [
        "error: the array's task 3 is none of 2 shards; use --array=1-2"
    ]


@pytest.mark.parametrize("name", ["jobset_shards.yaml", "jobset_sweep.yaml"])
def test_jobset_of_workers(name: str, tmp_path: Path):
    """Every pod runs the command of its share, or the sweep's, by a stand-in for python."""
    jobset = yaml.safe_load((SCRIPTS / name).read_text())
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert jobset["kind"] == "JobSet"
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["parallelism"] == spec["completions"]
    assert spec["backoffLimit"] >= spec["completions"]
    (container,) = spec["template"]["spec"]["containers"]
    # Kubernetes puts variables into $(NAME): bash's own arithmetic would look like one.
    assert not any("$(" in word for word in container["command"])
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    for index in (0, spec["completions"] - 1):
        done = subprocess.run(
            container["command"],
            env=script_environment({"JOB_COMPLETION_INDEX": str(index)}, tmp_path),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("-m jaxgen ")
        if name == "jobset_shards.yaml":
            assert done.stdout.endswith(f" --shard={index + 1}/{spec['completions']}\n")
        else:
            assert "--storage=" in done.stdout
