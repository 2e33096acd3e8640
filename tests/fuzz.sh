#!/bin/sh
# fuzz.sh - runs a libFuzzer target on seeds of its kind.
#
# usage: fuzz.sh OUT NAME SECONDS        from the repository's root; `make fuzz` calls it
#
# What was found to reach new code stays in OUT/fuzz/NAME and is where the next run begins. An
# input that crashes, hangs for 10 seconds, leaks or asks for 16 MiB at once (no input is larger
# than 64 KiB) ends the run with status 1 and is left in OUT/fuzz/.
set -eu
out=$1 name=$2 seconds=$3
corpus=$out/fuzz/$name
seeds=$out/fuzz/$name.seeds
rm -rf "$seeds"
mkdir -p "$corpus" "$seeds"

case $name in
gguf)
    "$out/tools/broken_gguf" valid "$seeds/valid"
    "$out/tools/broken_gguf" --list | while read -r kind _; do
        "$out/tools/broken_gguf" "$kind" "$seeds/$kind"
    done
    head -c 65536 tests/models/storyteller-q8_0.gguf >"$seeds/storyteller" ;;
arch*) cp templates/arch/*.arch "$seeds" ;;
esac

set -- "$seeds"/*
echo "fuzz_$name: $seconds seconds, $# seeds"
log=$out/fuzz/$name.log
if "$out/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -max_len=65536 -malloc_limit_mb=16 \
    -artifact_prefix="$out/fuzz/$name-" -print_final_stats=1 "$corpus" "$seeds" >"$log" 2>&1; then
    sed -n 's/^stat::number_of_executed_units: */fuzz_'"$name"': nothing found, inputs tried: /p' "$log"
else
    tail -n 40 "$log"
    echo "fuzz_$name: failed; all of its output: $log"
    exit 1
fi
