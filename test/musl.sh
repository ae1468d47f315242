#!/bin/sh
# Makes ready what the tests and a release run on musl: the executable, the libstdc++.so.6 that it needs
# (in Alpine a package), and BusyBox's sh. They lie under dist/, where only the tests look.
#   sh test/musl.sh          for this machine
#   sh test/musl.sh aarch64  for arm64 on another, by qemu: dist/musl-aarch64 is its root directory
# Debian has no libstdc++ for musl. But its archive for glibc can be linked with musl: all of it that
# the executable asks for, and the little of glibc that musl lacks.
set -eu
cd "$(dirname "$0")/.."

# Debian's packages of another architecture, unpacked: unpack arm64 DIRECTORY PACKAGE...
unpack() {
  state=$(mktemp -d) into=$PWD/$2
  options="-qq -o APT::Architecture=$1 -o APT::Architectures=$1 -o Dir::State=$state
    -o Dir::State::status=/dev/null -o Dir::Cache=$state"
  shift 2
  (cd "$state" && apt-get $options update && apt-get $options download "$@" &&
    for package in *.deb; do dpkg-deb -x "$package" "$into"; done)
  rm -rf "$state"
}

machine=${1:-$(uname -m)}
case $machine in aarch64) target=linux-arm64-musl ;; *) target=linux-x64-musl ;; esac
exe=dist/entrypoint-$target

bun build.ts bun-$target

mkdir -p dist/busybox dist/musl
ln -sf "$(command -v busybox)" dist/busybox/sh
out=dist/musl root='' tools=''
if [ "$machine" != "$(uname -m)" ]; then
  root=dist/musl-$machine out=$root/lib/aarch64-linux-musl tools=aarch64-linux-gnu-
  [ -e $out/libc.so ] || unpack arm64 $root musl musl-dev
fi
libs=$root/usr/lib/$machine-linux-musl

# C++'s functions, and its tables, which the loader copies into the executable.
asked=$({ ${tools}nm -D --undefined-only $exe
  ${tools}readelf -W --relocs $exe | sed 's/.*_COPY  *[^ ]* /U /'; } |
  sed -n 's/^ *[Uw] \(_Z[^ ]*\|__cxa_[^ ]*\|__dynamic_cast\|__once_proxy\).*/\1/p' |
  grep -v '__cxa_finalize\|__cxa_thread_atexit_impl') # these are the C library's

gcc_has() { ${tools}g++ -print-file-name="$1"; }
${tools}gcc -shared -fPIC -nostdlib -nostdinc -isystem "$root/usr/include/$machine-linux-musl" \
  -o $out/libstdc++.so.6 -Wl,-soname,libstdc++.so.6 -Wl,-z,defs $(printf -- '-Wl,-u,%s ' $asked) \
  $libs/crti.o "$(gcc_has crtbeginS.o)" -x c - -x none "$(gcc_has libstdc++.a)" \
  "$(gcc_has libgcc_eh.a)" "$(gcc_has libgcc.a)" -L"$root/lib/$machine-linux-musl" -l:libc.so \
  "$(gcc_has crtendS.o)" $libs/crtn.o <<'SHIM'
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>
char __libc_single_threaded;
/* Nothing is found: a throw ends the program, as everything that Bun throws does. */
int _dl_find_object(void *address, void *result) { return -1; }
unsigned arc4random(void) { unsigned random; getentropy(&random, sizeof random); return random; }
unsigned long __getauxval(unsigned long type) { return getauxval(type); }
unsigned long __isoc23_strtoul(const char *text, char **end, int base) { return strtoul(text, end, base); }
size_t __strftime_l(char *text, size_t size, const char *format, const struct tm *time, locale_t locale) {
  return strftime_l(text, size, format, time, locale);
}
SHIM
