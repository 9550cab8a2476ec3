#!/usr/bin/env bash
# Is this a platform for which the lock has wheels? Exit 2 says what works instead.
set -euo pipefail

refuse_platform() {
  {
    echo "This project runs on Linux x86_64 with glibc 2.31 or newer; this machine is $1."
    echo "What works: Debian 12 or Ubuntu 22.04 and newer on x86_64, on a machine of that kind, in a virtual machine"
    echo "or in a container with --platform linux/amd64; then the same make command there."
    echo "Why: docs/setup.md, \"Where it runs\"."
  } >&2
  exit 2
}

system=$(uname -s) machine=$(uname -m)
[[ $system == Linux && $machine == x86_64 ]] || refuse_platform "$system $machine"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || refuse_platform "Linux x86_64 without glibc (Alpine and the like)"
version=${libc#glibc }
if ((${version%%.*} == 2 && 10#${version#*.} < 31)); then
  refuse_platform "Linux x86_64 with $libc"
fi
