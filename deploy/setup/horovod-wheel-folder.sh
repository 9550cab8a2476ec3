#!/usr/bin/env bash
# Prints the folder in which the wheel for this Python, torch, platform and patch is kept.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
torch=$(sed -n 's/^torch==\([^ ;]*\).*/\1/p' "$here/requirements.lock")
libc=$(getconf GNU_LIBC_VERSION)
read -r patch _ < <(cat "$here"/horovod-*.patch | sha256sum)
operations=${HOROVOD_GPU_OPERATIONS:-cpu}
cache=${RECSYS_CACHE:-$(dirname "$(dirname "$here")")/.cache}
echo "$cache/wheels/cp311-torch$torch-linux_x86_64_${libc// /}-${operations,,}-${patch:0:8}"
