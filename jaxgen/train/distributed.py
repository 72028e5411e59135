"""Joining a cluster: `jax.distributed`, when one is detected or asked for."""

from __future__ import annotations

import os

import jax

from jaxgen.errors import UserError
from jaxgen.log import log, only_errors

# Set by launchers under which JAX finds the other processes by itself. A Slurm job with one task
# or a one-host TPU VM has them too, and joining is harmless there.
_CLUSTER_SIGNS = (
    "JAX_COORDINATOR_ADDRESS",
    "OMPI_MCA_orte_hnp_uri",
    "SLURM_STEP_NODELIST",
    "MEGASCALE_COORDINATOR_ADDRESS",
    "TPU_WORKER_HOSTNAMES",
    "JOB_COMPLETION_INDEX",
)


def initialize(mode: str = "auto") -> None:
    """Joins the other hosts before the first computation.

    Args:
      mode: "auto" joins if the environment shows a cluster, "on" insists, "off" never joins.
        Outside Slurm, Open MPI, Kubernetes and Cloud TPU, give `JAX_COORDINATOR_ADDRESS`,
        `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`.

    Raises:
      UserError: no cluster was found with mode "on", or the hosts did not find each other.
    """
    signs = [name for name in _CLUSTER_SIGNS if os.environ.get(name)]
    if mode == "off" or (mode == "auto" and not signs) or jax.distributed.is_initialized():
        return
    log.info("joining the cluster (%s) ...", ", ".join(signs) or "as asked")
    try:
        jax.distributed.initialize(
            coordinator_address=os.environ.get("JAX_COORDINATOR_ADDRESS"),
            num_processes=_number("JAX_NUM_PROCESSES"),
            process_id=_number("JAX_PROCESS_ID"),
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"could not join the cluster: {reason}; give JAX_COORDINATOR_ADDRESS, "
            "JAX_NUM_PROCESSES and JAX_PROCESS_ID to each process, or --distributed=off"
        ) from error
    log.info("process %d of %d", jax.process_index(), jax.process_count())
    if jax.process_index() > 0:
        only_errors()


def _number(variable: str) -> int | None:
    value = os.environ.get(variable)
    return int(value) if value else None
