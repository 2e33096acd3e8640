#!/bin/sh
# bench.sh - README's tables: compiled models, other programs on the same files in turn, and what
# the machine can do at most.
#
# usage: bench.sh OUT        from the repository's root; `make bench` calls it
#
#   LLAMA_BENCH=FILE          llama.cpp's llama-bench: adds its figures and the ratios
#   IK_LLAMA_BENCH=FILE       ik_llama.cpp's, likewise (bench_peers.sh has the list)
#   LLAMA_BENCH_AVX2=FILE, IK_LLAMA_BENCH_AVX2=FILE   built for AVX2 alone, for the row that is; so
#   LLAMA_BENCH_SSE42=FILE, IK_LLAMA_BENCH_SSE42=FILE   for SSE 4.2
#   BENCH_MODELS=LIST         rows of `series` below, by name (all of them)
#   BENCH_QUICK=1             the demo model only
#   BENCH_ROUNDS=N            instead of each row's own number
#   BENCH_THREADS=LIST        (1 2)
#
# A round measures each number of threads with one program and then with the next, so that whatever
# else the machine does meets all of them. What is kept of a round is the median of its runs, in
# OUT/bench/, a file for each series; in the tables are medians of rounds. They are in report.md
# there, which is written anew after each row, and printed at the end. All of it takes an hour or two.
# Exit status: 0; 1 something of ours failed; 2 usage.
set -eu
out=$1
here=$(dirname "$0")
series=$out/bench
threads=${BENCH_THREADS:-1 2}

# What is measured. kind: speed, of reading a prompt and generating behind `depth` tokens; lookup, of
# generating with and without looking ahead; limits, how near to the machine's it is (`ggufc bench`).
# A round has `runs` runs; of limits, rounds are repetitions.
# name              kind    model              compiled with    peers  prompt generated depth runs rounds
series_table='
demo                speed   demo               -                native 256    128       0     5    7
stories-260k        speed   stories-260k       -                native 256    128       0     5    7
stories-15m         speed   stories-15m        -                native 128    64        0     3    7
tinyllama-1.1b      speed   tinyllama-1.1b     -                native 256    32        0     1    5
tinyllama-8k        speed   tinyllama-1.1b     --ctx=8704       native 256    32        8192  1    3
tinyllama-6l-f16    speed   tinyllama-6l-f16   -                native 256    32        0     1    5
tinyllama-6l-bf16   speed   tinyllama-6l-bf16  -                native 256    32        0     1    5
demo-packed         speed   demo               --pack           native 256    128       0     5    7
stories-15m-packed  speed   stories-15m        --pack           native 128    64        0     3    7
tinyllama-packed    speed   tinyllama-1.1b     --pack           native 256    32        0     1    5
tinyllama-repeats   lookup  tinyllama-tied     -                -      0      384       0     1    5
repeats-packed      lookup  tinyllama-tied     --pack           -      0      384       0     1    5
limits-1.1b         limits  tinyllama-1.1b     -                -      256    32        0     1    5
limits-f16          limits  tinyllama-6l-f16   -                -      256    32        0     1    5
tinyllama-avx2      speed   tinyllama-1.1b     --cpu=x86-64-v3  avx2   256    32        0     1    5
tinyllama-sse42     speed   tinyllama-1.1b     --cpu=x86-64-v2  sse42  256    32        0     1    5
q4_k_m-sse42        speed   tinyllama-q4_k_m   --cpu=x86-64-v2  sse42  256    32        0     1    5
tinyllama-q4_k_m    speed   tinyllama-q4_k_m   -                native 256    32        0     1    5
tinyllama-q5_k_m    speed   tinyllama-q5_k_m   -                native 256    32        0     1    5
tinyllama-q6_k      speed   tinyllama-q6_k     -                native 256    32        0     1    5
tinyllama-q4_0      speed   tinyllama-q4_0     -                native 256    32        0     1    5
tinyllama-iq4_xs    speed   tinyllama-iq4_xs   -                native 256    32        0     1    5
'

# Models that are no shape of make_model's, and what it is told, or which model is quantized, and as what.
models_table='
tinyllama-6l-f16    tinyllama-1.1b --layers 6 --type f16
tinyllama-6l-bf16   tinyllama-1.1b --layers 6 --type bf16
tinyllama-tied      tinyllama-1.1b --tied
tinyllama-f16       tinyllama-1.1b --type f16
tinyllama-q4_k_m    quantize tinyllama-f16 Q4_K_M
tinyllama-q5_k_m    quantize tinyllama-f16 Q5_K_M
tinyllama-q6_k      quantize tinyllama-f16 Q6_K
tinyllama-q4_0      quantize tinyllama-f16 Q4_0
tinyllama-iq4_xs    quantize tinyllama-f16 IQ4_XS
'

# Looking ahead takes text that repeats itself. A model with random weights whose output matrix is its
# embedding finds each token the likeliest to come after itself: it says a word dozens of times, then
# another, much as a file is copied with an edit now and then.
lookup_prompt="Nora put the red ball in the box and the blue ball on the shelf near the door."

die() {
    echo "bench: $2" >&2
    exit "$1"
}

say() { echo "bench: $*" >&2; }

# The line of a table that begins with a word, without that word.
find_row() { echo "$1" | awk -v name="$2" '$1 == name { sub(/^[^ ]+ +/, ""); print; exit }'; }

# Sets what the table says of a row.
choose_row() {
    name=$1
    read -r kind model flags build n_prompt n_generate depth runs rounds <<END
$(find_row "$series_table" "$name")
END
    [ "$flags" != - ] || flags=
    rounds=${BENCH_ROUNDS:-$rounds}
}

# Drops a file from the page cache and reads it again, so that all programs meet its pages as a cold
# start leaves them, whatever was done with the file before.
reread() {
    sync "$1"
    dd if="$1" iflag=nocache count=0 status=none || say "$1 stays in the page cache as it is"
    cat "$1" >/dev/null
}

# Makes a model's file where there is none.
make_file() {
    [ ! -e "$out/models/$1.gguf" ] || return 0
    recipe=$(find_row "$models_table" "$1")
    # shellcheck disable=SC2086
    set -- "$1" ${recipe:-$1}
    if [ "$2" = quantize ]; then
        (make_file "$3")
        "$out/ggufc" quantize "$out/models/$3.gguf" "$out/models/$1.gguf" "$4"
    else
        new=$out/models/$1.gguf
        shift
        "$out/tools/make_model" "$@" -o "$new"
    fi
}

# Leaves the model's file in $file.
find_model() {
    if [ "$model" = demo ]; then
        file=tests/models/storyteller-q8_0.gguf
    else
        make_file "$model"
        file=$out/models/$model.gguf
    fi
    reread "$file"
}

# ---- figures

# The median of the numbers in a file; nothing where there are none.
median() {
    [ ! -e "$1" ] || sort -g "$1" |
        awk '{ v[NR] = $1 } END { if (NR) print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# A number with as many digits as mean something: 12345, 123, 12.3, 1.23; – for none
short() {
    awk -v x="$1" 'BEGIN { printf (x == "" ? "–" : x >= 100 ? "%.0f" : x >= 10 ? "%.1f" : "%.2f"), x }'
}

# a / b; – where one of them is missing
ratio() {
    awk -v a="$1" -v b="$2" 'BEGIN { if (a == "" || b == "") print "–"; else printf "%.2f", a / b }'
}

mib() { awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }

# One figure that --info prints, in bytes.
info() { "$executable" --info | sed -n "s/^$1: *\([0-9]*\).*/\1/p"; }

# ---- rows of speed: $series/NAME.THREADS.{decode,prefill}.PROGRAM

# Lines of what and how fast, on standard input: the median of each is a round's figure.
keep_round() {
    cat >"$series/round"
    for what in prefill decode; do
        sed -n "s/^$what //p" "$series/round" >"$series/round.$what"
        median "$series/round.$what" >>"$series/$name.$1.$what.$2"
    done
}

measure_ours() {
    "$executable" --bench --bench-prompt "$n_prompt" -n "$n_generate" --bench-depth "$depth" \
        --bench-runs "$runs" -t "$1" >"$series/ours" || die 1 "$executable failed"
    awk '{ print $1, $6 }' "$series/ours" | keep_round "$1" ggufc
}

# A peer that fails has said so, and no figure.
measure_peers() {
    for peer in $peers; do
        sh "$here/bench_peers.sh" measure "$peer" "$build" "$file" "$1" "$n_prompt" "$n_generate" \
            "$depth" "$runs" | keep_round "$1" "$peer"
    done
}

measure_speed() {
    round=0
    while [ $round -lt "$rounds" ]; do
        round=$((round + 1))
        say "$name, round $round of $rounds"
        for t in $threads; do
            measure_ours "$t"
            measure_peers "$t"
        done
    done
}

# Our speed at something, and each peer's with the ratio of ours to it, as table cells.
speed_cells() {
    ours=$(median "$series/$name.$1.$2.ggufc")
    printf ' %s |' "$(short "$ours")"
    for peer in $peers; do
        theirs=$(median "$series/$name.$1.$2.$peer")
        printf ' %s | %s |' "$(short "$theirs")" "$(ratio "$ours" "$theirs")"
    done
}

speed_rows() {
    for t in $threads; do
        printf '| %s | %d |%s%s\n' "$name" "$t" "$(speed_cells "$t" decode)" "$(speed_cells "$t" prefill)"
    done >>"$series/speeds.md"
    of='' behind=''
    [ "$name" = "$model" ] || of="$model${flags:+ compiled with $flags}, "
    [ "$depth" = 0 ] || behind=", behind $depth"
    echo "- $name: $of$n_prompt tokens read, $n_generate generated$behind; rounds: $rounds" \
        >>"$series/rows.md"
}

# ---- sizes

# Leaves the executable, and the times of all compilations in a series.
compile() {
    executable=$series/$name
    : >"$series/$name.compile-ms"
    for _ in 1 2 3 4 5; do
        begin=$(date +%s%N)
        "$out/ggufc" "$file" ${flags:+"$flags"} -o "$executable" 2>"$series/$name.messages" ||
            { cat "$series/$name.messages" >&2; die 1 "$name cannot be compiled"; }
        echo $((($(date +%s%N) - begin) / 1000)) | awk '{ print $1 / 1000 }' >>"$series/$name.compile-ms"
    done
    [ ! -e "$executable.weights" ] || reread "$executable.weights" # --pack
}

# Milliseconds from exec to the first byte generated; only the demo model has a text to say.
first_byte() {
    [ "$model" = demo ] || { echo "–"; return; }
    "$out/tools/measure" -r 41 "$executable" -p "Once upon a time," -n 1 --temp 0 \
        --no-display-prompt >"$series/$name.first"
    cut -d' ' -f1 "$series/$name.first" >"$series/$name.first-byte-ms"
    echo "$(short "$(median "$series/$name.first-byte-ms")") ms"
}

peak_bytes() {
    "$out/tools/measure" "$executable" --bench --bench-prompt "$n_prompt" -n "$n_generate" \
        --bench-runs 1 | awk '{ print $3 * 1024 }'
}

size_row() {
    arena=$(info arena) kv=$(info "kv cache") weights=$(info weights)
    printf '| %s | %s s | %d KiB | %s | %s + %s + %s | %s |\n' "$name" \
        "$(awk -v ms="$(median "$series/$name.compile-ms")" 'BEGIN { printf "%.2f", ms / 1000 }')" \
        $((($(wc -c <"$executable") + 1023) / 1024)) "$(first_byte)" \
        "$(mib "$weights")" "$(mib "$kv")" "$(mib "$arena")" "$(mib "$(peak_bytes)")" \
        >>"$series/sizes.md"
}

# ---- rows of looking ahead: $series/NAME.THREADS.{lookup,no-lookup}

generate() {
    "$executable" -p "$lookup_prompt" -n "$n_generate" --temp 0 --ignore-eos -t "$1" "--$2" -v \
        >"$series/$name.$2.text" 2>"$series/$name.$2.log" ||
        { cat "$series/$name.$2.log" >&2; die 1 "$executable failed"; }
    sed -n 's/^[^:]*: eval: .*, *\([0-9.]*\) tokens\/s).*/\1/p' "$series/$name.$2.log" \
        >>"$series/$name.$1.$2"
}

measure_lookup() {
    round=0
    while [ $round -lt "$rounds" ]; do
        round=$((round + 1))
        say "$name, round $round of $rounds"
        for t in $threads; do
            generate "$t" no-lookup
            generate "$t" lookup
            cmp -s "$series/$name.lookup.text" "$series/$name.no-lookup.text" ||
                die 1 "$name: another text with --lookup than without"
            sed -n 's/.*look-ahead: *//p' "$series/$name.lookup.log" >"$series/$name.$t.drafts"
        done
    done
}

lookup_rows() {
    for t in $threads; do
        without=$(median "$series/$name.$t.no-lookup") with=$(median "$series/$name.$t.lookup")
        printf '| %s | %d | %s | %s | %s | %s |\n' "$name" "$t" "$(short "$without")" "$(short "$with")" \
            "$(ratio "$with" "$without")" "$(cat "$series/$name.$t.drafts")"
    done >>"$series/lookups.md"
}

# ---- rows of limits, which and what comes near them one process measures: `ggufc bench`

measure_limits() {
    say "$name"
    "$out/ggufc" bench "$file" ${flags:+"$flags"} -p "$n_prompt" -n "$n_generate" -r "$rounds" \
        -t "$(echo "$threads" | tr ' ' ,)" -o json >"$series/$name.json"
}

# For each number of threads decode's reads and prefill's products, with the limit of each and the share
# of it that is reached. An object of the JSON is a line.
limits_rows() {
    awk -v model="$model" '
        function field(key) {
            if (!match($0, "\"" key "\": [^,}]*")) return ""
            return substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 4)
        }
        function giga(x) { return sprintf(x >= 99.95e9 ? "%.0f" : "%.1f", x / 1e9) }
        function cells(rate, limit) {
            return giga(rate) " | " giga(limit) " | " sprintf("%.0f %%", 100 * field("share")) " |"
        }
        { t = field("n_threads") }
        /"dots_per_second"/ {
            threads[++n] = t
            limits[t, "\"read\""] = field("weights_bytes_per_second")
            limits[t, "\"dot\""] = field("dots_per_second")
            limits[t, "\"fma\""] = field("fmas_per_second")
        }
        /"samples_ts"/ && field("n_gen") > 0 {
            decode[t] = cells(field("bytes_per_second"), limits[t, field("limit")])
        }
        /"samples_ts"/ && field("n_gen") == 0 {
            prefill[t] = cells(field("multiply_adds_per_second"), limits[t, field("limit")])
        }
        END {
            for (i = 1; i <= n; i++) {
                t = threads[i]
                print "| " model " | " t " | " decode[t], prefill[t]
            }
        }' "$series/$name.json" >>"$series/limits.md"
}

# ---- the report

# A table of $series/FILE, below its head; nothing where it has no rows.
table() {
    [ -e "$series/$1" ] || return 0
    echo
    echo "$2"
    echo "$2" | awk -F'|' '{ printf "|---"; for (i = 3; i < NF; i++) printf "|--:"; print "|" }'
    cat "$series/$1"
}

print_report() {
    columns=
    for peer in $peers; do columns="$columns $peer | ratio |"; done
    sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | sed -n 1p
    echo "$(nproc) processors, $(date +%Y-%m-%d), tokens per second"
    table speeds.md "| model | threads | decode |$columns prefill |$columns"
    [ ! -e "$series/rows.md" ] || { echo; cat "$series/rows.md"; }
    sizes="weights + KV cache + arena"
    table sizes.md "| model | compiled in | executable | first token | $sizes | peak memory |"
    table lookups.md "| model | threads | \`--no-lookup\` | \`--lookup\` | ratio | drafts |"
    prefill="prefill, G multiply-adds/s"
    table limits.md "| model | threads | decode, GB/s | at most | share | $prefill | at most | share |"
}

measure_row() {
    rm -f "$series/$name".*
    find_model
    case $kind in
    speed)
        compile
        measure_speed
        [ "$depth" != 0 ] || size_row # the same but for the cache
        speed_rows ;;
    lookup)
        compile
        measure_lookup
        lookup_rows ;;
    limits)
        measure_limits
        limits_rows ;;
    esac
    print_report >"$series/report.new"
    mv "$series/report.new" "$series/report.md"
}

# All rows but those for a machine that this is not.
all=$(echo "$series_table" | awk -v machine="$(uname -m)" '
    NF && ($5 == "native" || $5 == "-" || machine == "x86_64") { print $1 }')
models=${BENCH_MODELS:-$all}
[ -z "${BENCH_QUICK:-}" ] || models=demo
for name in $models; do
    [ -n "$(find_row "$series_table" "$name")" ] ||
        die 2 "BENCH_MODELS: no row is called $name; there are $(echo "$all" | tr '\n' ' ')"
done
peers=$(sh "$here/bench_peers.sh" list) || exit 2
mkdir -p "$series" "$out/models"
for file in speeds rows sizes lookups limits report; do rm -f "$series/$file.md"; done
for name in $models; do
    choose_row "$name"
    measure_row
done
cat "$series/report.md"
