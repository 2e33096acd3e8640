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

# Little-endian numbers below 256, and strings, as they stand in a GGUF.
u32() { for n; do printf '%b' "\\0$(printf %o "$n")\\0\\0\\0"; done; }
u64() { for n; do u32 "$n" 0; done; }
string() { u64 ${#1} && printf %s "$1"; }

# Two tokens; x has a column for each, y one that is the last token's.
activations() {
    printf GGUF && u32 3 && u64 2 2
    string general.type && u32 8 && string activations
    string activations.tokens && u32 9 5 && u64 2 && u32 1 42
    string x && u32 2 && u64 4 2 && u32 0 && u64 0
    string y && u32 1 && u64 4 && u32 0 && u64 32
    printf '\0' && u32 1 2 3 4 5 6 7 8 9 10 11 12
}

case $name in
gguf)
    "$out/tools/broken_gguf" valid "$seeds/valid"
    "$out/tools/broken_gguf" --list | while read -r kind _; do
        "$out/tools/broken_gguf" "$kind" "$seeds/$kind"
    done
    head -c 65536 tests/models/storyteller-q8_0.gguf >"$seeds/storyteller" ;;
recording) # what the first byte means: fuzz_recording.c
    activations >"$seeds/gguf"
    printf 'n# values\n1.5, -2e-3\n0x1p3 nan\r\n-inf' >"$seeds/rows"
    printf 'n0: 1.5\n1: 2\n0: 1\n1: 2\n' >"$seeds/indices"
    printf 'n1 1.5\n2 2\n3 1e99' >"$seeds/pairs"
    printf 'i1, 442\n2147483647' >"$seeds/ids"
    printf 'b\001\000\000\000\377\377\377\177' >"$seeds/binary"
    printf 'pprompt: a\nn_tokens: 2\nn_tokens: 2\ntoken ids: 1, 442\n' >"$seeds/prompt"
    printf 'm# x\n{name}_{l}.{t}.f32 = {name}-{l}.rope@{t}\na.txt =\n\000Qcur_07.12.f32' >"$seeds/map"
    printf 'fx_{t} = x@{t}\000x_0\0001 2\000x_12\0003 4\000layer_1.txt\0001 2 3 4\000tokens.txt\0001 2' \
        >"$seeds/folder"
    printf 'f\000a.bin\000abcd\000a-tokens.bin\000\001\001\001\001\000a-prompt.txt\000prompt: x\n' \
        >"$seeds/logits" ;;
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
