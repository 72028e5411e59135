#!/usr/bin/env bash
# Train a config on a TPU slice of a GKE cluster that has JobSet: fill in jobset.yaml, apply it.
#
#   tpu_scripts/gke_jobset.sh --name=sr --image=IMAGE --accelerator=tpu-v5-lite-podslice \
#     --topology=4x4 --config=configs/srgan.py:paper --claim=runs \
#     -- --config.train.batch_size=256
#
#   --name NAME          the JobSet's name (default: jaxgen)
#   --image IMAGE        a container image with jaxgen; tpu_scripts/README.md shows how to build it
#   --accelerator TYPE   node label: tpu-v4-podslice, tpu-v5-lite-podslice, tpu-v6e-slice, ...
#   --topology AxB[xC]   chips of the slice: 2x4, 4x4, 2x2x4, ...
#   --chips-per-host N   chips of one machine (default: 4)
#   --config FILE        the config, with its variant: configs/srgan.py:paper
#   --claim CLAIM        ReadWriteMany volume claim; it is mounted as /runs, the run is /runs/NAME
#   --restarts N         how often the slice may start again (default: 100)
#   --dry-run            print the manifest and the command, run nothing
#   -- ARGUMENTS         more flags of jaxgen.main
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tpu_scripts/common.sh
. "$here/common.sh"

NAME=jaxgen image='' accelerator='' topology='' chips=4 config='' claim='' restarts=100
while [ $# -gt 0 ]; do
  case $1 in
    --) shift && break ;;
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --image) need_value "$@" && image=$2 && shift 2 ;;
    --accelerator) need_value "$@" && accelerator=$2 && shift 2 ;;
    --topology) need_value "$@" && topology=$2 && shift 2 ;;
    --chips-per-host) need_value "$@" && chips=$2 && shift 2 ;;
    --config) need_value "$@" && config=$2 && shift 2 ;;
    --claim) need_value "$@" && claim=$2 && shift 2 ;;
    --restarts) need_value "$@" && restarts=$2 && shift 2 ;;
    --zone | --project) die "unknown argument $1; kubectl's context names the cluster" ;;
    *) common_flag "$0" "$@" && shift "$SHIFT" ;;
  esac
done
[ -n "$image" ] || die "--image is missing; pass a container image with jaxgen"
[ -n "$accelerator" ] || die "--accelerator is missing; pass one such as tpu-v5-lite-podslice"
[ -n "$topology" ] || die "--topology is missing; pass the slice's chips, such as --topology=4x4"
[ -n "$config" ] || die "--config is missing; pass one such as --config=configs/srgan.py:paper"
[ -n "$claim" ] || die "--claim is missing; pass a ReadWriteMany volume claim for the runs"
case $NAME in
  *[!a-z0-9-]* | -* | *-) die "--name must be lower-case letters, digits and dashes, not $NAME" ;;
esac
case $topology in
  *[!0-9x]* | x* | *x | *xx*) die "--topology must look like 4x4 or 2x2x4, not $topology" ;;
esac
case $chips$restarts in
  *[!0-9]*) die "--chips-per-host and --restarts must be whole numbers" ;;
esac
total=$((${topology//x/*}))
if [ "$chips" -lt 1 ] || [ $((total % chips)) -ne 0 ]; then
  die "$total chips ($topology) do not divide into hosts of $chips; see --chips-per-host"
fi

# json WORD...: the words as a JSON list, which YAML reads too.
json() {
  local word comma=''
  printf '['
  for word in "$@"; do
    word=${word//\\/\\\\}
    printf '%s"%s"' "$comma" "${word//\"/\\\"}"
    comma=', '
  done
  printf ']'
}

# fill LINE VALUE: LINE with what stands between its key and its marker replaced.
fill() { printf '%s: %s\n' "${1%%: *}" "$2"; }

render() {
  local line args
  args=$(json python -m jaxgen.main "--config=$config" "--workdir=/runs/$NAME" --distributed=on "$@")
  while IFS= read -r line; do
    case $line in
      *'  # NAME') fill "$line" "$NAME" ;;
      *'  # RESTARTS') fill "$line" "$restarts" ;;
      *'  # HOSTS') fill "$line" $((total / chips)) ;;
      *'  # ACCELERATOR') fill "$line" "$accelerator" ;;
      *'  # TOPOLOGY') fill "$line" "$topology" ;;
      *'  # IMAGE') fill "$line" "$(json "$image" | tr -d '[]')" ;;
      *'  # ARGS') fill "$line" "$args" ;;
      *'  # CLAIM') fill "$line" "$claim" ;;
      *'  # CHIPS') fill "$line" "$chips" ;;
      *) printf '%s\n' "$line" ;;
    esac
  done <"$here/jobset.yaml"
}

if [ "$DRY_RUN" = 1 ]; then
  render "$@"
  run kubectl apply -f -
else
  render "$@" | run kubectl apply -f -
fi
