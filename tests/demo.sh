#!/bin/sh
# demo.sh - compiles the demo model, says what that took, and lets the executable tell a story.
#
# usage: demo.sh GGUFC MODEL.gguf EXECUTABLE
set -eu
ggufc=$1 model=$2 executable=$3
prompt="Once upon a time,"

bytes() { wc -c <"$1"; }

echo
echo "\$ $ggufc $model -o $executable"
begin=$(date +%s%N)
"$ggufc" "$model" -o "$executable"
ms=$((($(date +%s%N) - begin) / 1000000))
printf 'compiled in %d.%02d s: %d KiB of executable, which maps the %d KiB of weights in the model file\n\n' \
    $((ms / 1000)) $((ms % 1000 / 10)) \
    $((($(bytes "$executable") + 1023) / 1024)) $((($(bytes "$model") + 1023) / 1024))

# Another story each time: no seed is given. What -v tells goes to standard error.
echo "\$ $executable -p \"$prompt\" -n 300 --temp 0.7"
log=$executable.log
"$executable" -p "$prompt" -n 300 --temp 0.7 -v 2>"$log" || { cat "$log" >&2; exit 1; }
echo
sed -n 's/^.* eval: .* \/ *\([0-9]*\) tokens .* \([0-9]*\)\.[0-9]* tokens\/s)$/\1 tokens at \2 tokens a second/p' "$log" | tail -n 1
