#!/bin/sh
# deps.sh - installs what building and testing need, where it is missing; quick where nothing is.
#
# usage: deps.sh LLVM_CONFIG [EXTRA]...
#
#   LLVM_CONFIG  llvm-config-19, say. Where that is missing and the system has no such package, the
#                first newer LLVM that it has is installed; the Makefile finds it by itself.
#   EXTRA        beyond building and testing: clang (with its sanitizers), or a package that brings
#                a command of its name
#
# Only apt-get is known. Where it cannot be used, one line says what to run, and the status is 1.
set -u

newer="20 21 22" # what may stand in for LLVM 19
cc=${CC:-cc}
out=${OUT:-out}
llvm_config=$1
shift

llvm_version=${llvm_config##*-}
case $llvm_version in *[!0-9]*) llvm_version= ;; esac # a config of another name: LLVM is given

fail() {
    echo "make deps: $1" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

have_llvm() {
    have "$llvm_config" && [ -e "$("$llvm_config" --includedir)/llvm-c/Core.h" ]
}

# Does the compiler, if there is one, find all of these headers?
have_headers() {
    have "$cc" && printf '#include <%s>\n' "$@" | $cc -E - >/dev/null 2>&1
}

# Says which packages are missing. cmocka.h wants the headers before it.
missing_packages() {
    have "$cc" || case $cc in cc) echo gcc ;; *) echo "$cc" ;; esac
    { have ar && have nm; } || echo binutils
    have_headers stdio.h || echo libc6-dev
    have_headers stdarg.h stddef.h stdint.h setjmp.h cmocka.h || echo libcmocka-dev
    have_llvm || echo "llvm-$llvm_version-dev"
    for extra; do
        case $extra in
        clang)
            have "clang-$llvm_version" || echo "clang-$llvm_version"
            ls /usr/lib/llvm-"$llvm_version"/lib/clang/*/include/fuzzer >/dev/null 2>&1 ||
                echo "libclang-rt-$llvm_version-dev" ;;
        *) have "$extra" || echo "$extra" ;;
        esac
    done
}

# Says the command that installs what is missing.
advice() {
    echo "apt-get update && apt-get install -y --no-install-recommends $missing"
}

find_missing() {
    missing=$(missing_packages "$@" | tr '\n' ' ')
    missing=${missing% }
}

find_missing "$@"
[ -n "$missing" ] || exit 0

[ -n "$llvm_version" ] || have_llvm ||
    fail "$llvm_config is not there, or has no headers: set LLVM_CONFIG, or LLVM_VERSION=19"
have apt-get || fail "there is no apt-get here; install in another way (Debian's names): $missing"

if [ "$(id -u)" = 0 ]; then
    sudo=
else
    have sudo || fail "as root, run: $(advice)"
    sudo=sudo
    sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; } ||
        fail "sudo is refused; as root, run: $(advice)"
fi

log=$out/deps.log
mkdir -p "$out"
: >"$log" || exit 1

as_root() { $sudo "$@" >>"$log" 2>&1 </dev/null; }

available() { apt-cache show "$1" >/dev/null 2>&1; }

# Of several mirrors one that fails may not matter: the installation decides.
echo "  APT   $missing (a minute or two; log: $log)"
as_root apt-get update || echo "  APT   the update failed, at least in part"

if [ "$llvm_version" = 19 ] && ! have_llvm && ! available llvm-19-dev; then
    for version in $newer none; do
        [ "$version" != none ] ||
            fail "no llvm-19-dev nor a newer one among this system's packages; see apt.llvm.org"
        available "llvm-$version-dev" || continue
        echo "  APT   no LLVM 19 here, but LLVM $version"
        llvm_version=$version llvm_config=llvm-config-$version
        find_missing "$@"
        break
    done
fi

# $missing is a list of packages:
# shellcheck disable=SC2086
if ! as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends $missing; then
    tail -n 5 "$log" >&2
    fail "that failed; as root, run: $(advice)"
fi

find_missing "$@"
[ -z "$missing" ] || fail "installed, and yet not found: $missing (log: $log)"
