#!/usr/bin/env bash
# Resolves setup.py and pins.txt into requirements.lock. `make lock` keeps every version that still
# fits; `make lock ARGS=--upgrade` takes the newest of all, `ARGS="--upgrade-package NAME"` of one.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=$PWD/.cache

UV_CACHE_DIR=${RECSYS_CACHE:-$cache}/uv-cache "$cache/uv/bin/uv" pip compile setup.py \
  --extra batch --extra serving --extra cpu --extra dev \
  --override deploy/setup/pins.txt \
  --python-version 3.11 --python-platform x86_64-manylinux_2_31 \
  --generate-hashes --no-emit-index-url --no-annotate --quiet \
  --custom-compile-command "make lock" \
  --output-file deploy/setup/requirements.lock "$@"
git --no-pager diff --stat -- deploy/setup/requirements.lock
echo "the next make target installs what changed"
