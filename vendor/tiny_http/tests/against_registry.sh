#!/bin/sh
# Holds tests/promises.rs against the registry's tiny_http 0.12.0, each test in a process of its own, because some of
# them abort it. Prints a line a test; every promise is expected to fail there. Exits 0 when all of them do.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/src" "$scratch/tests"
cp "$here/promises.rs" "$scratch/tests/"
cp "$here/registry/rig.rs" "$scratch/tests/rig.rs"
: > "$scratch/src/lib.rs"
cat > "$scratch/Cargo.toml" <<'TOML'
[package]
name = "against-registry"
version = "0.0.0"
edition = "2024"
[dependencies]
tiny_http = "=0.12.0"
socket2 = "0.6"
[workspace]
TOML
cd "$scratch"
cargo test --no-run --test promises 2>&1 | tail -1
program=$(cargo test --no-run --test promises 2>&1 | sed -n 's/.*(\(.*promises-[0-9a-f]*\)).*/\1/p')
kept=0
for test in $("$program" --list 2>/dev/null | sed -n 's/: test$//p'); do
    if timeout 60 "$program" --exact "$test" >/dev/null 2>&1; then
        echo "KEPT    $test"
        kept=$((kept + 1))
    else
        echo "broken  $test"
    fi
done
echo "$kept promises kept by tiny_http 0.12.0"
test "$kept" = 0
