#!/usr/bin/env bash
# Put jaxgen on all workers of a TPU VM: the source, a virtual environment, the tested pins.
# Run it again after a commit to bring the workers up to date.
#
#   tpu_scripts/setup_tpu.sh --name=sr --zone=us-west4-a
#
#   --name NAME        the TPU's name ($TPU_NAME)
#   --zone ZONE        its zone ($TPU_ZONE)
#   --project PROJECT  the cloud project ($TPU_PROJECT; default: gcloud's own)
#   --repo URL         fetch this git repository (default: copy this checkout's commits)
#   --ref REF          branch or tag (default: HEAD, the commit that is checked out)
#   --before COMMAND   every worker runs this first: mount the shared disk, for example
#   --dry-run          print the commands, run nothing
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tpu_scripts/common.sh
. "$here/common.sh"

repo='' ref=HEAD before=''
while [ $# -gt 0 ]; do
  case $1 in
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --repo) need_value "$@" && repo=$2 && shift 2 ;;
    --before) need_value "$@" && before=$2 && shift 2 ;;
    --ref) need_value "$@" && ref=$2 && shift 2 ;;
    *) common_flag "$0" "$@" && shift "$SHIFT" ;;
  esac
done
need_tpu

if [ -n "$before" ]; then
  run gcloud compute tpus tpu-vm ssh "${WHERE[@]}" --worker=all "--command=$before"
fi
if [ -z "$repo" ]; then
  # A bundle carries the commits, so that environment.json on the workers names the revision.
  bundle=${TMPDIR:-/tmp}/jaxgen-$NAME.bundle
  run git -C "$(dirname "$here")" bundle create -q "$bundle" "$ref"
  run gcloud compute tpus tpu-vm scp "$bundle" "$NAME:jaxgen.bundle" "${WHERE[@]:1}" --worker=all
  repo=../jaxgen.bundle
fi
run gcloud compute tpus tpu-vm ssh "${WHERE[@]}" --worker=all --command="set -e; \
git init -q jaxgen; \
git -C jaxgen fetch -q $(quote "$repo") $(quote "$ref"); \
git -C jaxgen checkout -q --force --detach FETCH_HEAD; \
bash jaxgen/tpu_scripts/worker.sh setup"
