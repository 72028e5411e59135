#!/usr/bin/env bash
# What the other scripts run on each worker, from any directory. Not for use by hand.
#
#   worker.sh setup            virtual environment and jaxgen with the tested pins
#   worker.sh start COMMAND    COMMAND in the background, from the repository's root; its log is
#                              ~/jaxgen-run/train.log. Refused while a run is active
#   worker.sh run COMMAND      the same, but stays and prints the log; joins an active run
#   worker.sh stop             SIGTERM to the run, and wait until it has saved and ended
#   worker.sh supervise COMMAND  COMMAND in the foreground; SIGTERM is passed on to it, and the
#                              exit status is then 143 even if COMMAND saved and exited with 0,
#                              so that a cluster manager does not take it for finished
#   --dry-run (first)          print what would be done, run nothing
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tpu_scripts/common.sh
. "$root/tpu_scripts/common.sh"
state=${HOME:-/root}/jaxgen-run

setup() {
  local python=python3
  cd "$root"
  # TPU images carry Python 3.10 or older; uv brings a newer one without touching the system's.
  if python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    [ -d .venv ] || run "$python" -m venv .venv
  else
    run "$python" -m pip install --user --quiet uv
    [ -d .venv ] || run "$python" -m uv venv --quiet --seed --python 3.11 .venv
  fi
  run .venv/bin/python -m pip install --quiet -c constraints.txt -e ".[tpu]"
}

active() {
  # The command line is looked at too: after a reboot the number may be another process's.
  [ -f "$state/pid" ] && grep -qs worker.sh "/proc/$(cat "$state/pid")/cmdline"
}

start() {
  [ $# -gt 0 ] || die "start needs a command; see --help"
  if active; then
    die "a run is active on this worker (process $(cat "$state/pid")); stop it with run_tpu.sh --stop"
  fi
  if [ "$DRY_RUN" = 1 ]; then
    run "$@"
    return
  fi
  mkdir -p "$state"
  rm -f "$state/status"
  printf '== %s: %s\n' "$(date -u +%FT%TZ)" "$(quote_all "$@")" >>"$state/train.log"
  # exec keeps one process id from here to the supervisor; nohup and the redirections let the
  # run outlive the connection that started it.
  (
    cd "$root"
    exec nohup bash tpu_scripts/worker.sh supervise "$@"
  ) >>"$state/train.log" 2>&1 </dev/null &
  printf '%s\n' "$!" >"$state/pid"
  printf 'started (process %s), log in %s\n' "$!" "$state/train.log"
}

follow() {
  # tail ends by itself soon after the run does.
  tail -n 100 --pid="$(cat "$state/pid")" -f "$state/train.log"
  while active; do sleep 1; done
  [ -f "$state/status" ] || die "the run ended without a status; see $state/train.log"
  return "$(cat "$state/status")"
}

stop() {
  active || return 0
  kill -TERM "$(cat "$state/pid")"
  while active; do sleep 0.2; done
}

supervise() {
  local child='' stopped=0 code=0
  [ $# -gt 0 ] || die "supervise needs a command; see --help"
  trap 'stopped=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true' TERM
  "$@" &
  child=$!
  # A trap ends `wait` early, with the child still saving: wait until it is gone.
  while :; do
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2>/dev/null || break
  done
  [ "$stopped" = 0 ] || code=143
  [ ! -d "$state" ] || printf '%s\n' "$code" >"$state/status"
  return "$code"
}

[ "${1:-}" != --dry-run ] || { DRY_RUN=1 && shift; }
[ $# -gt 0 ] || die "say what to do; see --help"
action=$1
shift
case $action in
  setup | start | stop | supervise) "$action" "$@" ;;
  run)
    active || start "$@"
    [ "$DRY_RUN" = 1 ] || follow
    ;;
  *) common_flag "$0" "$action" "$@" ;;
esac
