usage() {
  cat <<'END'
usage: script [--yes] [--local] [--rollback] [--state DIR]
  --yes       answer yes to every question: go or no-go, steps by hand, gates without a command
  --local     run every command on this machine, not on its host (or SIMDEPLOY_LOCAL_HOSTS=1)
  --rollback  leave what is going on, and roll back what the records say was begun
  --state DIR where the records are kept; by default beside you, named after the plan
RUN_ON (by default 'ssh -o BatchMode=yes') is called with the host and one line for its shell.
Exit codes: 0 done, 2 usage, 3 another plan or world, 5 halted or steps failed, 6 an outcome is unknown, 7 locked,
8 rolled back, 9 declined, 74 records cannot be written, 130 interrupted.
END
}

yes=no here=no back=no
[ "${SIMDEPLOY_LOCAL_HOSTS:-}" = 1 ] && here=yes
while [ $# -gt 0 ]; do
  case $1 in
    --yes) yes=yes ;;
    --local) here=yes ;;
    --rollback) back=yes ;;
    --state) [ $# -gt 1 ] || { usage >&2; exit 2; }; STATE=$2; shift ;;
    --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

abort='' section=main failures=0 limit=''
# shellcheck disable=SC2034 # read by the words that `offered` evaluates
newline='
'

say() { printf '%s\n' "$*"; }

fail() { # exit code, message
  code=$1
  shift
  printf '%s\n' "$*" >&2
  exit "$code"
}

note() { # who, what: a fact on disk before anything follows from it
  printf '' >"$STATE/$1.$2" || fail 74 "cannot write $STATE/$1.$2; the last thing begun may be unfinished"
}

is() { [ -e "$STATE/$1.$2" ]; }

any() { # what, numbers: whether it is so of any of these steps
  what=$1
  shift
  for each; do is "$each" "$what" && return 0; done
  return 1
}

all() {
  what=$1
  shift
  for each; do is "$each" "$what" || return 1; done
}

ask() {
  if [ "$yes" = yes ]; then return 0; fi
  printf '%s [y/N] ' "$1"
  IFS= read -r answer || return 1
  case $answer in y | Y | yes) return 0 ;; esac
  return 1
}

bounded() {
  if [ -n "$limit" ]; then timeout -k 10 "$limit" "$@"; else "$@"; fi
}

secrets() { # variables: their values, a line each; printf is the shell's own, so no process list shows them
  for variable; do eval "printf '%s\\n' \"\$$variable\""; done
}

on() { # host or '' for this desk, a line for its shell, variables whose values it reads from its input
  host=$1 line=$2
  shift 2
  secrets "$@" | if [ "$here" = yes ] || [ -z "$host" ]; then
    bounded sh -c "$line"
  else
    # shellcheck disable=SC2086 # RUN_ON is a command with its options
    bounded ${RUN_ON:-ssh -o BatchMode=yes} "$host" "$line"
  fi
}

abort_with() { # what follows
  [ -z "$abort" ] || return 0
  abort=$1
  # shellcheck disable=SC2086 # a list of numbers
  if [ "$abort" = rollback ] && { [ "$section" = rollback ] || [ "$UNDOABLE" = no ] || any began $FINAL; }; then abort=halt; fi
  if [ "$abort" = forward ] && [ "$section" = rollback ]; then abort=halt; fi
  say "ABORT at $id: $abort"
}

turn() { # number, id, flags, needs: whether it has its turn now
  number=$1 id=$2 flags=$3
  if is "$number" succeeded || is "$number" not_needed; then return 1; fi
  for need in $4; do
    if ! is "$need" succeeded && ! is "$need" not_needed; then
      say "skipped: $id"
      return 1
    fi
  done
  case $flags in *g*)
    if ! "guard_$number"; then
      note "$number" not_needed
      return 1
    fi
    ;;
  esac
}

attempt() { # attempts, delay: whether the step of this number comes to succeed
  tries=0
  while :; do
    tries=$((tries + 1))
    "step_$number"
    code=$?
    if [ "$code" -eq 0 ]; then return 0; fi
    case $flags in *u*) if [ "$code" -eq 124 ]; then return 0; fi ;; esac
    say "attempt $tries of $1 failed with $code: $id"
    if [ "$tries" -ge "$1" ]; then return 1; fi
    sleep "$2"
  done
}

perform() { # attempts, delay: the step of this number, by its check, its command or by hand
  case $flags in *c*) if "check_$number"; then say "there already: $id"; return 0; fi ;; esac
  case $flags in *h*)
    limit=''
    ask "By hand: $id. Reach what the script says above it. Done?"
    return
    ;;
  esac
  attempt "$1" "$2"
}

step() { # number, lane, id, flags, needs, attempts, delay, limit
  case $abort in '') ;; halt) is "lane$2" began || return 0 ;; *) return 0 ;; esac
  turn "$1" "$3" "$4" "$5" || return 0
  limit=$8
  case $flags in *e*) "expects_$number" || fail 3 "the world is not as $id expects it" ;; esac
  if is "$number" began && ! is "$number" failed; then
    case $flags in
      *c*) say "an earlier run left this unknown, its check decides: $id" ;;
      *) fail 6 "an earlier run left $id unknown; look, then make $STATE/$number.succeeded or remove $STATE/$number.began" ;;
    esac
  fi
  note "lane$2" began
  note "$number" began
  rm -f "$STATE/$number.failed"
  say "step $number: $id"
  if perform "$6" "$7"; then
    note "$number" succeeded
    return 0
  fi
  note "$number" failed
  failures=$((failures + 1))
  say "FAILED: $id"
  case $flags in *f*) abort_with "$ON_ABORT" ;; esac
}

gate() { # number, id, flags, needs, attempts, delay, limit, reaction
  [ -z "$abort" ] || return 0
  turn "$1" "$2" "$3" "$4" || return 0
  limit=$7
  note "$number" began
  say "gate $number: $id"
  case $flags in *h*) ask "Gate $id: is the release good?" ;; *) attempt "$5" "$6" ;; esac && { note "$number" succeeded; return 0; }
  note "$number" failed
  abort_with "$8"
}

judge() { # number, id, flags, needs, most failures, whose (batch or section), watched steps
  [ -z "$abort" ] || return 0
  turn "$1" "$2" "$3" "$4" || return 0
  most=$5 whose=$6
  shift 6
  failed=$failures
  if [ "$whose" = batch ]; then
    failed=0
    for each; do if is "$each" failed; then failed=$((failed + 1)); fi; done
  fi
  if [ "$failed" -gt "$most" ]; then
    say "judge $id: $failed failed, $most at most"
    abort_with "$ON_ABORT"
  else
    note "$number" succeeded
  fi
}

batch() { # what it is
  [ -z "$abort" ] || return 0
  ask "Go for $1?" || fail 9 "no-go for $1; begin again with the same --state to go on"
}

offered() { # variable, where its secret is
  eval "[ -n \"\${$1+set}\" ]" || fail 2 "set $1 to the secret at $2"
  eval "case \$$1 in *\"\$newline\"*) fail 2 \"$1 holds more than one line, which this script cannot pass on\" ;; esac"
}

begin() {
  mkdir -p "$STATE" || fail 74 "cannot make $STATE"
  if [ -e "$STATE/plan" ]; then
    IFS= read -r known <"$STATE/plan"
    [ "$known" = "$PLAN" ] || fail 3 "$STATE is of the plan $known and this script of $PLAN; name another --state"
  fi
  printf '%s\n' "$PLAN" >"$STATE/plan" || fail 74 "cannot write $STATE/plan"
  mkdir "$STATE/lock" 2>/dev/null || fail 7 "$STATE is in use; if nobody runs this, remove $STATE/lock"
  trap 'rmdir "$STATE/lock"' EXIT
  trap 'say "interrupted; begin again with the same --state"; exit 130' INT TERM HUP
  if is run rolled_back; then fail 2 "$STATE ended rolled back; name another --state"; fi
}

main() {
  begin
  round=0
  while is "section_$((round + 1))" began; do round=$((round + 1)); done
  if is rollback began; then
    abort=rollback
  elif [ "$back" = yes ]; then
    id='this desk'
    abort_with rollback
  elif [ "$round" -gt 0 ]; then
    section=forward
    "section_$round"
  else
    section_0
  fi
  while [ "$abort" = forward ]; do
    round=$((round + 1)) abort='' section=forward failures=0
    note "section_$round" began
    "section_$round"
  done
  if [ "$abort" = rollback ]; then
    note rollback began
    abort='' section=rollback failures=0
    section_rollback
    if [ -n "$abort" ] || [ "$failures" -gt 0 ]; then fail 5 "HALTED in the rollback: $failures steps failed"; fi
    note run rolled_back
    fail 8 "ROLLED BACK"
  fi
  [ -z "$abort" ] || fail 5 "HALTED"
  [ "$failures" -eq 0 ] || fail 5 "ended, and $failures steps failed"
  say "DONE"
}
