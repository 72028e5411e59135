#!/usr/bin/env bash
# Train a config on all workers of a TPU VM. The run goes on when the connection ends; a later
# start with the same work directory resumes it.
#
#   tpu_scripts/run_tpu.sh --name=sr --zone=us-west4-a --config=configs/srgan.py:paper \
#     --workdir=/mnt/runs/srgan -- --config.train.batch_size=256
#
#   --name NAME        the TPU's name ($TPU_NAME)
#   --zone ZONE        its zone ($TPU_ZONE)
#   --project PROJECT  the cloud project ($TPU_PROJECT; default: gcloud's own)
#   --config FILE      the config, with its variant: configs/srgan.py:paper
#   --workdir DIR      a folder that all workers see: a shared disk or mounted bucket
#   --env KEY=VALUE    an environment variable of the run; may be repeated
#   --wait             stay, print the log; exit status 0 only if the run came to its end
#   --stop             stop the run on all workers instead; it saves a checkpoint first
#   --dry-run          print the command, run nothing
#   -- ARGUMENTS       more flags of jaxgen.main
set -euo pipefail
# shellcheck source=tpu_scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

config='' workdir='' action=start variables=()
while [ $# -gt 0 ]; do
  case $1 in
    --) shift && break ;;
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --config) need_value "$@" && config=$2 && shift 2 ;;
    --workdir) need_value "$@" && workdir=$2 && shift 2 ;;
    --env)
      need_value "$@"
      case $2 in *=*) variables+=("$2") ;; *) die "--env needs KEY=VALUE, not $2" ;; esac
      shift 2
      ;;
    --wait) action=run && shift ;;
    --stop) action=stop && shift ;;
    *) common_flag "$0" "$@" && shift "$SHIFT" ;;
  esac
done
need_tpu

if [ "$action" = stop ]; then
  command="bash jaxgen/tpu_scripts/worker.sh stop"
else
  [ -n "$config" ] || die "--config is missing; pass one such as --config=configs/srgan.py:paper"
  [ -n "$workdir" ] || die "--workdir is missing; pass a folder that all workers see"
  case $workdir in
    *://*) die "--workdir must be a folder on the workers, not a bucket's address; mount the bucket" ;;
  esac
  command="bash jaxgen/tpu_scripts/worker.sh $action $(quote_all env \
    ${variables[@]+"${variables[@]}"} .venv/bin/python -m jaxgen.main \
    "--config=$config" "--workdir=$workdir" --distributed=on "$@")"
fi
run gcloud compute tpus tpu-vm ssh "${WHERE[@]}" --worker=all "--command=$command"
