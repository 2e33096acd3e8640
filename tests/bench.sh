#!/bin/sh
# bench.sh - measures compiled models, and llama.cpp on the same files in turn.
#
# usage: bench.sh OUT        from the repository's root; `make bench` calls it
#
#   LLAMA_BENCH=FILE    llama.cpp's llama-bench: adds its figures and the ratios
#   BENCH_MODELS=LIST   of demo stories-260k stories-15m tinyllama-1.1b (all of them)
#   BENCH_QUICK=1       the demo model only
#   BENCH_ROUNDS=N      instead of each model's own number
#   BENCH_THREADS=LIST  (1 2)
#
# A round measures each number of threads with one program and then with the other, so that
# whatever else the machine does meets both. Every single value is kept in OUT/bench/, a file for
# each series; what is printed, as markdown, and kept in report.md there, is their medians.
set -eu
out=$1
threads=${BENCH_THREADS:-1 2}
models=${BENCH_MODELS:-demo stories-260k stories-15m tinyllama-1.1b}
[ -z "${BENCH_QUICK:-}" ] || models=demo
series=$out/bench
mkdir -p "$series" "$out/models"

# Sets how many tokens a model reads and generates, how often in a round, and how many rounds.
choose_sizes() {
    case $1 in
    demo | stories-260k) n_prompt=256 n_generate=128 runs=5 rounds=7 ;;
    stories-15m) n_prompt=128 n_generate=64 runs=3 rounds=7 ;;
    *) n_prompt=256 n_generate=32 runs=1 rounds=5 ;;
    esac
    rounds=${BENCH_ROUNDS:-$rounds}
}

find_model() {
    file=$out/models/$1.gguf
    if [ "$1" = demo ]; then
        file=tests/models/storyteller-q8_0.gguf
    elif [ ! -e "$file" ]; then
        "$out/tools/make_model" "$1" -o "$file"
    fi
}

# The median of the numbers in a file.
median() {
    sort -g "$1" | awk '{ v[NR] = $1 } END { if (NR) print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# A number with as many digits as mean something: 12345, 123, 12.3, 1.23
short() {
    awk -v x="$1" 'BEGIN { printf (x >= 100 ? "%.0f" : (x >= 10 ? "%.1f" : "%.2f")), x }'
}

# One figure that --info prints, in bytes.
info() { "$executable" --info | sed -n "s/^$1: *\([0-9]*\).*/\1/p"; }

mib() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }

# name = model.threads; appends a value to $series/NAME.{decode,prefill}.{ggufc,llama}
measure_ours() {
    "$executable" --bench --bench-prompt $n_prompt -n $n_generate --bench-runs $runs -t "$2" |
        while read -r what _ _ _ _ speed _; do
            echo "$speed" >>"$series/$1.$what.ggufc"
        done
}

measure_llama() {
    "$LLAMA_BENCH" -m "$file" -t "$2" -p $n_prompt -n $n_generate -r $runs -o jsonl \
        2>"$series/llama-bench.log" |
        while read -r line; do
            case $line in *'"n_gen": 0,'*) what=prefill ;; *) what=decode ;; esac
            echo "$line" | sed 's/.*"samples_ts": *\[ *\([^]]*\)\].*/\1/' | tr -d ' ' | tr , '\n' \
                >>"$series/$1.$what.llama"
        done
}

measure_speed() {
    rm -f "$series/$1".*.ggufc "$series/$1".*.llama
    round=0
    while [ $round -lt "$rounds" ]; do
        round=$((round + 1))
        echo "bench: $1, round $round of $rounds" >&2
        for t in $threads; do
            measure_ours "$1.$t" "$t"
            [ -z "${LLAMA_BENCH:-}" ] || measure_llama "$1.$t" "$t"
        done
    done
}

# compile MODEL: leaves the executable, and the times of all compilations in a series.
compile() {
    executable=$series/$1
    : >"$series/$1.compile-ms"
    for _ in 1 2 3 4 5; do
        begin=$(date +%s%N)
        "$out/ggufc" "$file" -o "$executable"
        echo $((($(date +%s%N) - begin) / 1000)) | awk '{ print $1 / 1000 }' >>"$series/$1.compile-ms"
    done
}

# Milliseconds from exec to the first byte generated; only the demo model has a text to say.
first_byte() {
    [ "$1" = demo ] || { echo "–"; return; }
    "$out/tools/measure" -r 41 "$executable" -p "Once upon a time," -n 1 --temp 0 \
        --no-display-prompt >"$series/$1.first"
    cut -d' ' -f1 "$series/$1.first" >"$series/$1.first-byte-ms"
    echo "$(short "$(median "$series/$1.first-byte-ms")") ms"
}

peak_bytes() {
    "$out/tools/measure" "$executable" --bench --bench-prompt $n_prompt -n $n_generate \
        --bench-runs 1 | awk '{ print $3 * 1024 }'
}

size_row() {
    arena=$(info arena) kv=$(info "kv cache") weights=$(info weights)
    printf '| %s | %s s | %d KiB | %s | %s + %s + %s | %s |\n' "$1" \
        "$(awk -v ms="$(median "$series/$1.compile-ms")" 'BEGIN { printf "%.2f", ms / 1000 }')" \
        $((($(wc -c <"$executable") + 1023) / 1024)) "$(first_byte "$1")" \
        "$(mib "$weights")" "$(mib "$kv")" "$(mib "$arena")" "$(mib "$(peak_bytes)")" \
        >>"$series/sizes.md"
}

# Our speed at something, and where there is one llama.cpp's and the ratio, as table cells.
speed_cells() {
    ours=$(median "$series/$1.$2.ggufc")
    printf ' %s |' "$(short "$ours")"
    [ -n "${LLAMA_BENCH:-}" ] || return 0
    theirs=$(median "$series/$1.$2.llama")
    printf ' %s | %s |' "$(short "$theirs")" "$(awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "%.2f", a / b }')"
}

speed_rows() {
    for t in $threads; do
        { printf '| %s | %d |' "$1" "$t"
          speed_cells "$1.$t" decode
          speed_cells "$1.$t" prefill
          echo; } >>"$series/speeds.md"
    done
}

print_tables() {
    echo
    sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | sed -n 1p
    echo "$(nproc) processors, $(date +%Y-%m-%d), tokens per second"
    echo
    if [ -n "${LLAMA_BENCH:-}" ]; then
        echo "| model | threads | decode | llama.cpp | ratio | prefill | llama.cpp | ratio |"
        echo "|---|--:|--:|--:|--:|--:|--:|--:|"
    else
        echo "| model | threads | decode | prefill |"
        echo "|---|--:|--:|--:|"
    fi
    cat "$series/speeds.md"
    echo
    echo "| model | compiled in | executable | first token | weights + KV cache + arena | peak memory |"
    echo "|---|--:|--:|--:|--:|--:|"
    cat "$series/sizes.md"
}

rm -f "$series/speeds.md" "$series/sizes.md"
for model in $models; do
    choose_sizes "$model"
    find_model "$model"
    compile "$model"
    measure_speed "$model"
    size_row "$model"
    speed_rows "$model"
done
print_tables | tee "$series/report.md"
