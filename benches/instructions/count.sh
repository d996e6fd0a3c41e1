#!/usr/bin/env bash
# Instructions a token of stages 3 to 9 over the null decoder, counted by callgrind.
#   count.sh            prints the table
#   count.sh --check    fails when a figure is more than 10 % above table.txt, or 0
#   count.sh --update   writes table.txt
#   count.sh --chat     instructions of a chat's prompt, and whether they grew; --check does this, too
#   count.sh --trace    the engine's steps for 160 requests in stage 3, not recorded (0) and recorded (1)
#   count.sh --profile STAGE [STEP_US [CELLS]]    the functions that take most
#
# `batch` is the batching thread alone, its loop in a run of 160 requests over their tokens. `server` is that and the HTTP
# threads, without the clients, and `all` the whole process: both are the difference between 160 requests and 80, over the
# tokens of 80, so that start-up falls away.
#
# Which thread runs when decides how many requests share a step, so above stage 3 two counts differ by up to a tenth. The
# table holds medians of five; a figure that is too high is counted four times more, and the median of the five decides.
# Threads take turns (--fair-sched). Without that, the batching thread of stage 5 took 2,646 to 3,369 in 15 counts; with it,
# 2,582 to 2,596 in 7.
#
# Stage 9 is counted twice: with steps of no time, where pieces wait together, and with steps of 20 ms, where each piece
# leaves alone.
#
# `cells` says where the sequences' cells lie: in a buffer for `each` sequence, or in `one` that all share, as with large models
# (--kv-unified on). Only the batching thread does something else then.
#
# chat.txt is of a chat of ten turns, without calls and with them: what an HTTP thread takes to render it (`render`), and to render and
# tokenise it (`all`). `before` is `all` before texts of clients were guarded against control tokens (the parent of commit d4345e9, with
# the same template and turns): `all` may be a tenth above that, too.
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

# instructions REQUESTS STAGE STEP_US CELLS [callgrind flags]
instructions() {
  local requests=$1 stage=$2 step=$3 cells=$4
  shift 4
  valgrind --fair-sched=yes --tool=callgrind --callgrind-out-file=/dev/null "$@" "$program" "$stage" "$requests" "$step" "$cells" 2>&1 >/dev/null |
    sed -n 's/.*Collected : //p'
}

# a_token STAGE STEP_US CELLS [callgrind flags]
a_token() {
  local stage=$1 step=$2 cells=$3
  shift 3
  echo $((($(instructions $many "$stage" "$step" "$cells" "$@") - $(instructions $few "$stage" "$step" "$cells" "$@")) / ((many - few) * 50)))
}

# figure COLUMN STAGE STEP_US CELLS
figure() {
  case $1 in
    batch) echo $(($(instructions $many "$2" "$3" "$4" "$batch") / (many * 50))) ;;
    server) a_token "$2" "$3" "$4" "$batch" "$http" ;;
    all) a_token "$2" "$3" "$4" ;;
  esac
}

# median COUNT...
median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }

# Each row's stage, step and cells, and which columns it has.
rows="3 0 each - - all
3 0 one - - all
4 0 each batch - all
4 0 one batch - all
5 0 each batch - all
6 0 each batch - all
7 0 each batch - all
8 0 each batch server all
9 0 each batch server all
9 20000 each batch server all
9 20000 one batch - -"

# table COUNTS: each figure the median of so many.
table() {
  local counts
  echo "stage step_us cells batch server all"
  while read -r stage step cells columns; do
    line="$stage $step $cells"
    for column in $columns; do
      counts=(-)
      if [ "$column" != - ]; then
        mapfile -t counts < <(for _ in $(seq "$1"); do figure "$column" "$stage" "$step" "$cells"; done)
      fi
      line+=" $(median "${counts[@]}")"
    done
    echo "$line"
  done <<<"$rows"
}

# Whether figure $1 is more than 10 % above $2.
grew() { [ $((10 * $1)) -gt $((11 * $2)) ]; }

# check_figure NOW BEFORE COLUMN STAGE STEP_US CELLS
check_figure() {
  local counts=("$1") median
  [ "$1" = - ] && return
  if [ "$1" = 0 ]; then
    echo "stage $4, $6, $3: nothing was counted: a function whose instructions are collected isn't in the program" >&2
    return 1
  fi
  grew "$1" "$2" || return 0
  for _ in 1 2 3 4; do counts+=("$(figure "$3" "$4" "$5" "$6")"); done
  median=$(median "${counts[@]}")
  echo "stage $4, $6, $3: counted ${counts[*]}, median $median, before $2" >&2
  if grew "$median" "$2"; then
    echo "stage $4, $6, $3, grew from $2 to $median instructions a token" >&2
    return 1
  fi
}

check() {
  local bad=0 stage step cells batch_now server_now all_now batch_before server_before all_before
  while read -r stage step cells batch_now server_now all_now _ _ _ batch_before server_before all_before; do
    check_figure "$batch_now" "$batch_before" batch "$stage" "$step" "$cells" || bad=1
    check_figure "$server_now" "$server_before" server "$stage" "$step" "$cells" || bad=1
    check_figure "$all_now" "$all_before" all "$stage" "$step" "$cells" || bad=1
  done < <(paste -d ' ' <(tail -n +2 <<<"$1") <(tail -n +2 table.txt | tr -s ' '))
  return $bad
}

chat_table() {
  local chat render tokens
  echo "chat render all before"
  for chat in plain calls; do
    render=$(chat_figure rendered $chat) tokens=$(chat_figure tokenised $chat)
    echo "$chat $render $((render + tokens)) $(awk -v chat=$chat '$1 == chat { print $4 }' chat.txt)"
  done
}

# chat_figure rendered|tokenised plain|calls: of one chat, the mean of 25, of which the first fills the tokenizer's cache.
chat_figure() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "--toggle-collect=*chat_$1*" "$program" chat 25 "$2" 2>&1 >/dev/null |
    awk '/Collected/ { printf "%d\n", $NF / 25 }'
}

check_chat() {
  local bad=0 chat render all render_before all_before guardless
  while read -r chat render all guardless _ render_before all_before _; do
    if [ "$render" = 0 ] || grew "$render" "$render_before"; then
      echo "chat, $chat: rendering went from $render_before to $render instructions" >&2
      bad=1
    fi
    if grew "$all" "$all_before" || grew "$all" "$guardless"; then
      echo "chat, $chat: from $all_before to $all instructions, without the guard $guardless" >&2
      bad=1
    fi
  done < <(paste -d ' ' <(tail -n +2 <<<"$1") <(tail -n +2 chat.txt | tr -s ' '))
  return $bad
}

case "${1:-}" in
  --chat)
    chats=$(chat_table)
    column -t <<<"$chats"
    check_chat "$chats"
    ;;
  --trace)
    step="--toggle-collect=instructions::engine::Engine<*>::step"
    for recorded in 0 1; do
      count=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$step" "$program" 3 $many 0 each $recorded 2>&1 >/dev/null |
        sed -n 's/.*Collected : //p')
      echo "recorded $recorded: $count instructions, $((count / (many * 50))) a token"
    done
    ;;
  --profile)
    out=$(mktemp)
    valgrind --tool=callgrind --callgrind-out-file="$out" "$program" "$2" $many "${3:-0}" "${4:-each}" >/dev/null 2>&1
    callgrind_annotate "$out" | head -60
    rm "$out"
    ;;
  --update)
    now=$(table 5 | column -t)
    tee table.txt <<<"$now"
    chats=$(chat_table | column -t)
    tee chat.txt <<<"$chats"
    ;;
  --check)
    now=$(table 1)
    column -t <<<"$now"
    chats=$(chat_table)
    column -t <<<"$chats"
    bad=0
    check "$now" || bad=1
    check_chat "$chats" || bad=1
    exit $bad
    ;;
  *)
    table 1 | column -t
    chat_table | column -t
    ;;
esac
