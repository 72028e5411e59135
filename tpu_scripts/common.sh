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
