#!/bin/sh
# Prints C source that holds every FILE.arch given, for arch_builtin() (compiler/arch/arch.h).
# usage: builtin.sh FILE.arch ...
echo '#include "arch_builtin.h"'
n=0
for file; do
    echo "static const char text_$n[] ="
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/    "&\\n"/' "$file"
    echo ';'
    n=$((n + 1))
done
echo 'const arch_builtin_text arch_builtin_texts[] = {'
n=0
for file; do
    echo "    {\"$(basename "$file" .arch)\", text_$n, sizeof text_$n - 1},"
    n=$((n + 1))
done
echo '    {0, 0, 0},'
echo '};'
