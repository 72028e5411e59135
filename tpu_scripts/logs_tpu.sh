#!/usr/bin/env bash
# Collect the logs of all workers, or follow one.
#
#   tpu_scripts/logs_tpu.sh --name=sr --zone=us-west4-a --out=logs     # logs/0.log, logs/1.log, ...
#   tpu_scripts/logs_tpu.sh --name=sr --zone=us-west4-a --follow
#
#   --name NAME        the TPU's name ($TPU_NAME)
#   --zone ZONE        its zone ($TPU_ZONE)
#   --project PROJECT  the cloud project ($TPU_PROJECT; default: gcloud's own)
#   --out DIR          local folder for the workers' logs (made if it is not there)
#   --follow           print worker 0's log as it grows (Ctrl-C ends this, not the run)
#   --worker N         the worker to follow (default: 0)
#   --dry-run          print the commands, run nothing
set -euo pipefail
# shellcheck source=tpu_scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

out='' follow=0 worker=0
while [ $# -gt 0 ]; do
  case $1 in
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --out) need_value "$@" && out=$2 && shift 2 ;;
    --follow) follow=1 && shift ;;
    --worker) need_value "$@" && worker=$2 && shift 2 ;;
    *) common_flag "$0" "$@" && shift "$SHIFT" ;;
  esac
done
need_tpu

if [ "$follow" = 1 ]; then
  run gcloud compute tpus tpu-vm ssh "${WHERE[@]}" "--worker=$worker" \
    "--command=tail -n 100 -F jaxgen-run/train.log"
else
  [ -n "$out" ] || die "--out is missing; pass a local folder, or --follow to watch worker 0"
  run mkdir -p "$out"
  run gcloud compute tpus tpu-vm ssh "${WHERE[@]}" --worker=all \
    "--command=cat jaxgen-run/train.log" "--output-directory=$out"
fi
