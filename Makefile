# What people type. Each target does everything it needs on a fresh machine that has Rust, a C++ compiler and make.
#
# Cargo always runs with --release: there is one profile, so that llama.cpp compiles once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Cargo installed for this user but not on the PATH of this shell.
export PATH := $(PATH):$(HOME)/.cargo/bin

# Arguments for the program: make run ARGS="-m model.gguf --port 8081"
ARGS ?=

# Real vocabularies, where this checkout has them beside it: tests then insist on them.
ifneq ($(wildcard ../shared/data/.),)
export CLLM_SHARED_DATA := $(abspath ../shared/data)
endif

.PHONY: help
help: ## This list
	@echo "cllm: a language-model server over llama.cpp"
	echo
	sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
	echo
	echo "Arguments go into ARGS: make run ARGS=\"-m model.gguf --port 8081\""

.PHONY: run
run: setup ## Build and serve on http://127.0.0.1:8080
	cargo run --release --bin cllm -- serve $(ARGS)

# vendor/tiny_http is a crate of its own, with its own lock file. Its tests run unless ARGS picks some of ours.
TINY_HTTP := CARGO_TARGET_DIR="$${CARGO_TARGET_DIR:-target}/tiny_http" cargo

# The page is tested in a browser, the service and the alerts by the programs that read them, other CPUs in an emulator.
# Without root, the tests say what is missing.
.PHONY: judges
judges:
	@missing=
	command -v chromium >/dev/null || missing+=" chromium fonts-liberation"
	command -v systemd-analyze >/dev/null || missing+=" systemd"
	command -v promtool >/dev/null || missing+=" prometheus"
	command -v qemu-x86_64 >/dev/null || missing+=" qemu-user"
	if [ -n "$$missing" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then
	  echo "Installing$$missing"
	  export DEBIAN_FRONTEND=noninteractive
	  apt-get update -qq </dev/null
	  apt-get install -y -qq --no-install-recommends $$missing </dev/null
	fi

# Two small real models, 350 MB, kept in target/models. Offline, the tests that need them say that they were not run.
.PHONY: models
models:
	@tests/models.sh "$${CARGO_TARGET_DIR:-target}/models"

.PHONY: test
test: setup judges models ## Build and run all tests
	@if cargo nextest --version >/dev/null 2>&1; then
	  cargo nextest run --release $(ARGS)
	else
	  cargo test --release $(ARGS)
	fi
	if [ -z "$(ARGS)" ]; then
	  $(TINY_HTTP) test --release --locked --manifest-path vendor/tiny_http/Cargo.toml
	fi

# As .cargo/config.toml, for another CPU, in a folder of its own: llama.cpp compiles anew.
PORTABLE := $${CARGO_TARGET_DIR:-target}/portable

.PHONY: portable
portable: ## Build for every x86-64-v3 CPU: target/portable/release/cllm
	@export CARGO_TARGET_DIR="$(PORTABLE)"
	$(MAKE) setup
	RUSTFLAGS="-C target-cpu=x86-64-v3 -C force-frame-pointers=yes" cargo build --release --bin cllm

.PHONY: portability
portability: portable judges ## Build portably; run it in an empty root and on an older CPU
	@wide=$$(objdump -d "$(PORTABLE)"/release/build/llama-cpp-sys-2-*/out/lib/*.a | awk '/%zmm/ { n++ } END { print n + 0 }')
	if [ "$$wide" != 0 ]; then
	  echo "llama.cpp was compiled with AVX-512 ($$wide instructions), which x86-64-v3 doesn't have" >&2
	  exit 1
	fi
	ldd "$(PORTABLE)/release/cllm"
	CLLM_PORTABLE="$$(realpath "$(PORTABLE)/release/cllm")" cargo test --release --test anywhere

.PHONY: bench
bench: setup ## Measure every stage; see the README
	cargo bench $(ARGS)

# A picture of the page and one of the waterfall; the second takes minutes on a quiet machine.
.PHONY: pictures
pictures: setup judges models ## Draw the README's pictures anew: docs/pictures
	cargo test --release --test page a_chat_is_answered_while_three_others_are
	mkdir -p docs/pictures
	cp target/page/beside-others.png docs/pictures/page.png
	target/release/cllm bench stages -m target/models/SmolLM2-135M-Instruct.Q4_1.gguf --html target/page/waterfall.html
	chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1100,760 \
	  --screenshot=docs/pictures/waterfall.png target/page/waterfall.html

.PHONY: instructions
instructions: setup ## Count instructions a token; fails when they grew by more than 10 %
	@if ! command -v valgrind >/dev/null; then
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then
	    export DEBIAN_FRONTEND=noninteractive
	    apt-get update -qq </dev/null
	    apt-get install -y -qq --no-install-recommends valgrind </dev/null
	  else
	    echo "valgrind is missing. Install it and try again." >&2
	    exit 1
	  fi
	fi
	benches/instructions/count.sh --check

# Crates of their own that compile files of src/ without llama.cpp: a name that changes there must change in them.
APART := benches/instructions tests/fuzzing

.PHONY: lint
lint: setup ## Format check, and clippy with warnings denied
	@cargo fmt --check
	cargo fmt --check --manifest-path vendor/tiny_http/Cargo.toml
	for crate in $(APART); do
	  cargo fmt --check --manifest-path $$crate/Cargo.toml
	  CARGO_TARGET_DIR="$${CARGO_TARGET_DIR:-target}/apart" cargo check --quiet --locked --manifest-path $$crate/Cargo.toml
	done
	cargo clippy --release --all-targets -- -D warnings
	$(TINY_HTTP) clippy --release --locked --all-targets --manifest-path vendor/tiny_http/Cargo.toml -- -D warnings

.PHONY: model
model: setup ## How to get a model with weights
	@echo "Any GGUF file works:        make run ARGS=\"-m path/to/model.gguf\""
	echo "The built-in model needs nothing: make run"
	echo "A true shape with random weights, to measure this machine:"
	echo "  cargo run --release -- synth --shape qwen3-0.6b --quant q4_k_m"

# llama.cpp is built by cmake; its Rust bindings are generated with libclang and clang's own headers.
.PHONY: setup
setup: ## Install what the build needs: cmake, libclang
	@if ! command -v cargo >/dev/null; then
	  echo "Rust is missing. Install it with the command that https://rustup.rs shows, then try again." >&2
	  exit 1
	fi
	missing=
	command -v cmake >/dev/null || missing+=" cmake"
	command -v c++ >/dev/null || missing+=" g++"
	headers=$$(compgen -G "/usr/lib/llvm-*/lib/clang/*/include/stddef.h" || compgen -G "/usr/lib/clang/*/include/stddef.h" || true)
	library=
	for pattern in /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib; do
	  library+=$$(compgen -G "$$pattern/libclang.so*" || compgen -G "$$pattern/libclang-[0-9]*.so*" || true)
	done
	if [ -z "$${LIBCLANG_PATH:-}" ] && [ "$$(uname)" = Linux ] && { [ -z "$$headers" ] || [ -z "$$library" ]; }; then
	  missing+=" libclang-dev"
	fi
	if [ -n "$$missing" ]; then
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then
	    echo "Installing$$missing"
	    export DEBIAN_FRONTEND=noninteractive
	    apt-get update -qq </dev/null
	    apt-get install -y -qq --no-install-recommends $$missing </dev/null
	  elif command -v apt-get >/dev/null; then
	    echo "Missing:$$missing. Install them and try again:" >&2
	    echo "  sudo apt-get update && sudo apt-get install -y$$missing" >&2
	    exit 1
	  else
	    echo "Missing:$$missing (Debian's names). Install them with this system's package manager and try again." >&2
	    exit 1
	  fi
	fi
	if ! compgen -G "$${CARGO_TARGET_DIR:-target}/release/build/llama-cpp-sys-2-*/out/lib/libllama.a" >/dev/null; then
	  echo "The first build compiles llama.cpp: about 8 minutes on two cores, less on more. Later ones take seconds."
	fi
