# shellcheck shell=bash disable=SC2034
# What the scripts beside this file share. Sourced, never run; works with bash 3.2 (macOS) on.

DRY_RUN=0
NAME=${TPU_NAME:-}
ZONE=${TPU_ZONE:-}
PROJECT=${TPU_PROJECT:-}
SHIFT=0

# die MESSAGE: one line on stderr, exit status 2.
die() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

# usage FILE: prints the comment block at the top of FILE, which is its help text.
usage() {
  local line
  while IFS= read -r line; do
    case $line in
      '#!'*) continue ;;
      '#SBATCH'*) break ;;
      '# '*) printf '%s\n' "${line#\# }" ;;
      '#') printf '\n' ;;
      *) break ;;
    esac
  done <"$1"
}

# quote WORD: WORD as a shell would need it typed; plain words stay bare.
quote() {
  local escaped="'\\''"
  case $1 in
    '' | *[!A-Za-z0-9_./:=@%+,~-]*) printf "'%s'" "${1//\'/$escaped}" ;;
    *) printf '%s' "$1" ;;
  esac
}

# quote_all WORD...: the words quoted, with one space between them.
quote_all() {
  local word first=1
  for word in "$@"; do
    [ "$first" = 1 ] || printf ' '
    first=0
    quote "$word"
  done
}

# run COMMAND...: prints the command; runs it unless --dry-run was given.
run() {
  if [ "$DRY_RUN" = 1 ]; then
    quote_all "$@"
    printf '\n'
    return 0
  fi
  printf '+ %s\n' "$(quote_all "$@")" >&2
  command -v "$1" >/dev/null || die "$1 is not installed here; install it, or look with --dry-run"
  "$@"
}

# requeued COMMAND...: runs COMMAND, a job step of Slurm. At SIGUSR1, which comes before the time
# limit (#SBATCH --signal=B:USR1@...), its processes get SIGTERM to save and end, and the job goes
# back into the queue. (With several processes JAX's own service listens, and to SIGTERM alone.)
requeued() {
  local code warned=0 child
  if [ "$DRY_RUN" = 1 ]; then
    run "$@"
    return
  fi
  trap 'warned=1; run scancel --signal=TERM "$SLURM_JOB_ID" || true' USR1
  # At a preemption Slurm itself ends the steps and requeues the job; this shell waits for the save.
  trap : TERM
  run "$@" &
  child=$!
  # A trap ends `wait` early: wait until the child is gone, then for its own exit status.
  while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done
  code=0
  wait "$child" || code=$?
  [ "$warned" = 1 ] || return "$code"
  case $code in
    # Saved and stopped; or ended by the signal, and what is done is in whole files.
    0 | 130 | 143) run scontrol requeue "$SLURM_JOB_ID" ;;
    *) return "$code" ;;
  esac
}

# need_value FLAG [VALUE]: dies unless FLAG is followed by a value.
need_value() {
  [ $# -ge 2 ] && [ -n "$2" ] || die "$1 needs a value; see --help"
}

# common_flag FILE FLAG [REST...]: takes one flag that every script has and sets SHIFT to the
# number of words it used; an unknown flag is an error.
common_flag() {
  local file=$1
  shift
  SHIFT=2
  case $1 in
    -h | --help)
      usage "$file"
      exit 0
      ;;
    --dry-run) DRY_RUN=1 SHIFT=1 ;;
    --name) need_value "$@" && NAME=$2 ;;
    --zone) need_value "$@" && ZONE=$2 ;;
    --project) need_value "$@" && PROJECT=$2 ;;
    *) die "unknown argument $1; see --help" ;;
  esac
}

# need_tpu: dies unless a TPU is named; sets WHERE, the words that tell gcloud where it is.
need_tpu() {
  [ -n "$NAME" ] || die "--name is missing; pass --name=NAME or set TPU_NAME"
  [ -n "$ZONE" ] || die "--zone is missing; pass --zone=ZONE or set TPU_ZONE"
  WHERE=("$NAME" "--zone=$ZONE")
  [ -z "$PROJECT" ] || WHERE+=("--project=$PROJECT")
}
