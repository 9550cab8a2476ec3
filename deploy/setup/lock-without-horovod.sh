#!/usr/bin/env bash
# Prints the lock without Horovod, which exists as source alone and is built by a step of its own.
# With --only: prints Horovod's lines instead.
set -euo pipefail
only=$([[ ${1-} == --only ]] && echo 1 || echo 0)
awk -v only="$only" '/^[a-z0-9]/ {horovod = /^horovod==/} (only + 0) == horovod' \
  "$(dirname "$0")/requirements.lock"
