#!/usr/bin/env bash
# Create a TPU VM, now or by the queue.
#
#   tpu_scripts/create_tpu.sh --name=sr --zone=us-west4-a --type=v5litepod-8 --spot --queued
#
#   --name NAME        the TPU's name ($TPU_NAME)
#   --zone ZONE        its zone ($TPU_ZONE)
#   --project PROJECT  the cloud project ($TPU_PROJECT; default: gcloud's own)
#   --type TYPE        accelerator type: v4-8, v5litepod-16, v5p-8, v6e-8, ...
#   --version VERSION  runtime version (default: the base image of the type)
#   --spot             cheaper, may be taken away at any moment
#   --queued           ask through a queued resource, which waits until there is room
#   --wait             with --queued: return only when the TPU is there
#   --network NETWORK  network other than the project's default
#   --dry-run          print the command, run nothing
set -euo pipefail
# shellcheck source=tpu_scripts/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

type='' version='' network='' spot=0 queued=0 wait=0
while [ $# -gt 0 ]; do
  case $1 in
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --type) need_value "$@" && type=$2 && shift 2 ;;
    --version) need_value "$@" && version=$2 && shift 2 ;;
    --network) need_value "$@" && network=$2 && shift 2 ;;
    --spot) spot=1 && shift ;;
    --wait) wait=1 && shift ;;
    --queued) queued=1 && shift ;;
    *) common_flag "$0" "$@" && shift "$SHIFT" ;;
  esac
done
need_tpu
[ -n "$type" ] || die "--type is missing; pass an accelerator type such as --type=v5litepod-8"
if [ -z "$version" ]; then
  case $type in
    v2-* | v3-* | v4-*) version=tpu-ubuntu2204-base ;;
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v6e-*) version=v2-alpha-tpuv6e ;;
    *) die "no default runtime version for type $type; pass --version" ;;
  esac
fi

options=()
[ "$spot" = 0 ] || options+=(--spot)
[ -z "$network" ] || options+=("--network=$network")
if [ "$queued" = 1 ]; then
  # The node gets the request's own name, so that the other scripts find it by --name.
  run gcloud compute tpus queued-resources create "${WHERE[@]}" "--node-id=$NAME" \
    "--accelerator-type=$type" "--runtime-version=$version" ${options[@]+"${options[@]}"}
  [ "$wait" = 1 ] || exit 0
  while :; do
    state=$(run gcloud compute tpus queued-resources describe "${WHERE[@]}" \
      "--format=value(state.state)")
    printf '%s\n' "$state"
    [ "$DRY_RUN" = 0 ] || exit 0
    case $state in
      ACTIVE) exit 0 ;;
      FAILED | SUSPENDING | SUSPENDED) die "the request is $state; delete it and create another" ;;
    esac
    sleep 30
  done
else
  run gcloud compute tpus tpu-vm create "${WHERE[@]}" \
    "--accelerator-type=$type" "--version=$version" ${options[@]+"${options[@]}"}
fi
