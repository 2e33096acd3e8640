#!/bin/sh
# bench_peers.sh - measures other programs than ours; bench.sh calls it.
#
# usage: bench_peers.sh list
#        bench_peers.sh measure PEER BUILD MODEL.gguf THREADS PROMPT GENERATED DEPTH RUNS
#
# `list` prints the names of those that a variable below names a binary of, each on a line.
# `measure` prints `prefill SPEED` and `decode SPEED`, a line for each run, in tokens per second. It
# prints nothing for a peer of which there is no such binary, and what a peer cannot measure is
# missing. BUILD is `native`, or one of `builds`: `avx2` for the binary that VARIABLE_AVX2 names.
# Exit status: 0; 1 a peer failed; 2 a variable does not name a program.
set -eu

builds='avx2 sse42'

# A peer is a llama-bench of some kind: another one is a row. P, G and D stand for the tokens that are
# read, generated, and there before. ik_llama.cpp's generates behind a prompt, but does not read behind one.
# name        variable        plain      behind a depth
peers='
llama.cpp    |LLAMA_BENCH    |-p P -n G |-fa 1 -d D -p P -n G
ik_llama.cpp |IK_LLAMA_BENCH |-p P -n G |-fa 1 -p 0 -n 0 -gp D,G
'

# The rows without spaces around the bars, a peer on a line.
rows() { echo "$peers" | sed -e '/^$/d' -e 's/ *| */|/g'; }

# The binary that VARIABLE, or VARIABLE_BUILD, names; nothing where it is not set.
find_binary() {
    named=$1
    [ "$2" = native ] || named=$1_$(echo "$2" | tr '[:lower:]' '[:upper:]')
    eval "binary=\${$named:-}"
    [ -z "$binary" ] || command -v "$binary" >/dev/null ||
        { echo "bench: $named: $binary is not a program" >&2; exit 2; }
}

list() {
    rows | while IFS='|' read -r name variable _; do
        given=
        for build in native $builds; do
            find_binary "$variable" "$build"
            given=$given$binary
        done
        [ -z "$given" ] || echo "$name"
    done
}

# What llama-bench wrote as JSON: a line for each object, then for each sample of it.
samples() {
    tr -d ' \n' | tr '{' '\n' |
        sed -n 's/.*"n_gen":\([0-9]*\),.*"samples_ts":\[\([^]]*\)\].*/\1 \2/p' |
        awk '{ n = split($2, ts, ",")
               for (i = 1; i <= n; i++) print ($1 > 0 ? "decode" : "prefill"), ts[i] }'
}

measure() {
    peer=$1 build=$2 model=$3 threads=$4 runs=$8
    sizes="s/P/$5/; s/G/$6/; s/D/$7/"
    variable=$(rows | awk -F'|' -v name="$peer" '$1 == name { print $2 }')
    find_binary "$variable" "$build"
    [ -n "$binary" ] || return 0
    flags=$(rows | awk -F'|' -v name="$peer" -v depth="$7" '$1 == name { print(depth > 0 ? $4 : $3) }')
    # shellcheck disable=SC2046
    set -- $(echo "$flags" | sed "$sizes")
    if ! json=$("$binary" -m "$model" -t "$threads" -r "$runs" -o json "$@" 2>/dev/null); then
        echo "bench: $peer failed: $binary -m $model -t $threads -r $runs -o json $*" >&2
        return 1
    fi
    echo "$json" | samples
}

case $1 in
list) list ;;
measure) shift; measure "$@" ;;
esac
