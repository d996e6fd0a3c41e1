#!/bin/bash
# Requests a second and CPU a request beside the registry's tiny_http 0.12.0: the same examples/hello.rs built twice, run in
# turn (A B A B ...), at 1 and at 64 keep-alive connections. wrk.sh [ROUNDS [SECONDS [WORKERS]]]
set -eu
rounds=${1:-7} seconds=${2:-3} workers=${3:-4}
here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'kill $a $b 2>/dev/null || true; rm -rf "$scratch"' EXIT
mkdir -p "$scratch/registry/examples" "$scratch/registry/src"
: > "$scratch/registry/src/lib.rs"
cp "$here/examples/hello.rs" "$scratch/registry/examples/"
printf '[package]\nname="registry-hello"\nversion="0.0.0"\nedition="2024"\n[dependencies]\ntiny_http="=0.12.0"\n[workspace]\n' \
    > "$scratch/registry/Cargo.toml"
base=${CARGO_TARGET_DIR:-$here/target}
(cd "$here" && CARGO_TARGET_DIR=$base cargo build -q --release --example hello)
(cd "$scratch/registry" && CARGO_TARGET_DIR=$base/registry cargo build -q --release --example hello)
"$base/release/examples/hello" 127.0.0.1:18081 "$workers" >/dev/null & a=$!
"$base/registry/release/examples/hello" 127.0.0.1:18082 "$workers" >/dev/null & b=$!
sleep 0.5
ticks() { awk '{print $14 + $15}' "/proc/$1/stat"; }
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
echo "$(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg), $workers workers, $rounds rounds of $seconds s"
for connections in 1 64; do
    for round in $(seq "$rounds"); do
        for side in "ours 18081 $a" "registry 18082 $b"; do
            read -r name port pid <<< "$side"
            before=$(ticks "$pid")
            wrk -t1 -c"$connections" -d"${seconds}s" "http://127.0.0.1:$port/" > "$scratch/out"
            used=$(($(ticks "$pid") - before))
            awk '/Requests\/sec/ {print $2}' "$scratch/out" >> "$scratch/$name.rate"
            awk -v used="$used" '/requests in/ {print used * 10000 / $1}' "$scratch/out" >> "$scratch/$name.cpu"
        done
    done
    for name in ours registry; do
        echo "$connections connections, $name: median $(median < "$scratch/$name.rate") requests/s," \
            "$(median < "$scratch/$name.cpu") us CPU a request; rates $(tr '\n' ' ' < "$scratch/$name.rate")"
    done
    awk -v ours="$(median < "$scratch/ours.rate")" -v theirs="$(median < "$scratch/registry.rate")" \
        'BEGIN {printf "ratio of medians %.2f\n", ours / theirs}'
    paste "$scratch/ours.rate" "$scratch/registry.rate" | awk '{print $1 / $2}' | median | sed 's/^/median of the ratios by round /'
    rm "$scratch"/*.rate "$scratch"/*.cpu
done
