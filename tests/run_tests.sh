#!/bin/sh
# run_tests.sh - runs test programs one after the other and adds up what they say.
#
# usage: run_tests.sh FOLDER PROGRAM...
#
# Each program's output goes to FOLDER/PROGRAM.log and is shown when something failed. A program
# that is killed, takes longer than TEST_SECONDS or runs no test at all counts as a failed test.
# The last line is `N passed, N failed, N skipped`; the status is 1 if any failed.
set -u
folder=$1
shift
limit=${TEST_SECONDS:-900}
passed=0 failed=0 skipped=0

# Adds up what a log tells of groups of tests: cmocka begins each with `[==========] Running 16
# test(s).` and ends it with `[  PASSED  ] 16 test(s).`; newer ones put the group's name before.
count() {
    sed -n "s/^\[[ =]*$1\(.*: *\| *\)\([0-9][0-9]*\) test(s).*/\2/p" "$2" |
        awk '{ n += $1 } END { print n + 0 }'
}

for program; do
    log=$folder/$program.log
    begin=$(date +%s%N)
    timeout "$limit" "$folder/$program" >"$log" 2>&1 </dev/null
    status=$?
    ms=$((($(date +%s%N) - begin) / 1000000))

    ran=$(count '\].*Running' "$log")
    p=$(count 'PASSED *\]' "$log") f=$(count 'FAILED *\]' "$log") s=$(count 'SKIPPED *\]' "$log")
    why=
    if [ $status = 124 ]; then
        why="stopped after $limit seconds"
    elif [ $status -gt 128 ]; then
        why="killed by signal $((status - 128))"
    elif [ $status != 0 ] && [ "$f" = 0 ]; then
        why="exit status $status"
    elif [ $status = 0 ] && [ $((p + f + s)) = 0 ]; then
        why="no test was run"
    elif [ $status = 0 ] && [ "$ran" != $((p + f + s)) ]; then
        why="$ran tests were run, $((p + f + s)) are told of"
    fi
    [ -z "$why" ] || f=$((f + 1))
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))

    word=ok
    if [ "$f" != 0 ]; then
        word=FAILED
        cat "$log"
    fi
    printf '%-6s %-22s %3d passed' "$word" "$program" "$p"
    [ "$f" = 0 ] || printf ', %d failed' "$f"
    [ "$s" = 0 ] || printf ', %d skipped' "$s"
    [ -z "$why" ] || printf ' (%s)' "$why"
    printf '%*s%d.%02d s\n' 2 '' $((ms / 1000)) $((ms % 1000 / 10))
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
