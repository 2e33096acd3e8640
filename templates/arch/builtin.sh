#!/bin/sh
# Prints C source that holds every FILE.arch given, for arch_builtin() (compiler/arch.h).
# usage: builtin.sh FILE.arch ...
echo '#include "arch_builtin.h"'
for file; do
    name=$(basename "$file" .arch)
    echo "static const char text_$name[] ="
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/    "&\\n"/' "$file"
    echo ';'
done
echo 'const arch_builtin_text arch_builtin_texts[] = {'
for file; do
    name=$(basename "$file" .arch)
    echo "    {\"$name\", text_$name, sizeof text_$name - 1},"
done
echo '    {0, 0, 0},'
echo '};'
