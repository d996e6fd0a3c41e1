#!/usr/bin/env bash
# Instructions a token of stages 3 to 9 over the null decoder, counted by callgrind.
#   count.sh            prints the table
#   count.sh --check    fails when a figure is more than 10 % above table.txt
#   count.sh --update   writes table.txt
#   count.sh --profile STAGE    the functions that take most
#
# Each figure is the difference between a run of 160 requests and one of 80, over the tokens of 80: start-up falls away.
# `batch` is the batching thread alone; `server` that and the HTTP threads, without the clients; `all` the whole process.
# Stage 9 is counted twice: with steps of no time, where pieces wait together, and with steps of 20 ms, where each piece
# leaves alone.
set -euo pipefail
cd "$(dirname "$0")"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-../../target}/instructions"
# Valgrind knows no AVX-512, and counts compare only for the same instruction set. It also hides the vDSO that rustix looks
# for, unless that goes through libc.
export RUSTFLAGS="-C target-cpu=x86-64-v3 --cfg rustix_use_libc"
cargo build --release --locked --quiet
program="$CARGO_TARGET_DIR/release/instructions"
batch="--toggle-collect=instructions::engine::Engine<*>::run"
http="--toggle-collect=instructions::http_thread*"
few=80 many=160

# instructions REQUESTS STAGE STEP_US [callgrind flags]
instructions() {
  local requests=$1 stage=$2 step=$3
  shift 3
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" "$program" "$stage" "$requests" "$step" 2>&1 >/dev/null |
    sed -n 's/.*Collected : //p'
}

# a_token STAGE STEP_US [callgrind flags]
a_token() {
  local stage=$1 step=$2
  shift 2
  echo $((($(instructions $many "$stage" "$step" "$@") - $(instructions $few "$stage" "$step" "$@")) / ((many - few) * 50)))
}

table() {
  echo "stage step_us batch server all"
  echo "3 0 - - $(a_token 3 0)"
  for stage in 4 5 6 7; do
    echo "$stage 0 $(a_token $stage 0 "$batch") - $(a_token $stage 0)"
  done
  for run in "8 0" "9 0" "9 20000"; do
    # shellcheck disable=SC2086
    echo "$run $(a_token $run "$batch") $(a_token $run "$batch" "$http") $(a_token $run)"
  done
}

case "${1:-}" in
  --profile)
    out=$(mktemp)
    valgrind --tool=callgrind --callgrind-out-file="$out" "$program" "$2" $many "${3:-0}" >/dev/null 2>&1
    callgrind_annotate "$out" | head -60
    rm "$out"
    ;;
  --update) table | column -t | tee table.txt ;;
  --check)
    now=$(table)
    column -t <<<"$now"
    paste -d ' ' <(tr -s ' ' <table.txt) <(echo "$now") | awk '
      NR > 1 {
        for (i = 3; i <= 5; i++)
          if ($i != "-" && $(i + 5) > 1.1 * $i) {
            print "stage " $1 " grew from " $i " to " $(i + 5) " instructions a token" > "/dev/stderr"
            bad = 1
          }
      }
      END { exit bad }'
    ;;
  *) table | column -t ;;
esac
