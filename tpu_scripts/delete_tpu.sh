#!/usr/bin/env bash
# Delete a TPU VM, and the queued resource that made it. Logs and local files on it are lost.
#
#   tpu_scripts/delete_tpu.sh --name=sr --zone=us-west4-a --queued
#
#   --name NAME        the TPU's name ($TPU_NAME)
#   --zone ZONE        its zone ($TPU_ZONE)
#   --project PROJECT  the cloud project ($TPU_PROJECT; default: gcloud's own)
#   --queued           it was created with --queued
#   --yes              do not ask
#   --dry-run          print the command, run nothing
set -euo pipefail
# shellcheck source=tpu_scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

queued=0 options=()
while [ $# -gt 0 ]; do
  case $1 in
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --queued) queued=1 && shift ;;
    --yes) options+=(--quiet) && shift ;;
    *) common_flag "$0" "$@" && shift "$SHIFT" ;;
  esac
done
need_tpu

if [ "$queued" = 1 ]; then
  # --force: a queued resource that still has its node is not deleted otherwise.
  run gcloud compute tpus queued-resources delete "${WHERE[@]}" --force \
    ${options[@]+"${options[@]}"}
else
  run gcloud compute tpus tpu-vm delete "${WHERE[@]}" ${options[@]+"${options[@]}"}
fi
