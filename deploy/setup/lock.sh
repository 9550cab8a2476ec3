#!/usr/bin/env bash
# Resolves setup.py and pins.txt into requirements.lock, and what `make mlflow` shows runs with into mlflow.lock.
# `make lock` keeps every version that still fits; `make lock ARGS=--upgrade` takes the newest of all,
# `ARGS="--upgrade-package NAME"` of one.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=$PWD/.cache

resolve() { # INPUT OUTPUT ARGUMENTS…
  UV_CACHE_DIR=${RECSYS_CACHE:-$cache}/uv-cache "$cache/uv/bin/uv" pip compile "$1" --output-file "deploy/setup/$2" \
    --python-version 3.11 --python-platform x86_64-manylinux_2_31 \
    --generate-hashes --no-emit-index-url --no-annotate --quiet \
    --custom-compile-command "make lock" "${@:3}"
}
resolve setup.py requirements.lock \
  --extra batch --extra serving --extra cpu --extra dev --override deploy/setup/pins.txt "$@"
# The UI reads the store that the jobs write: the two are of one version.
sed -n 's/^mlflow-skinny==/mlflow==/p' deploy/setup/pins.txt | resolve - mlflow.lock "$@"
git --no-pager diff --stat -- deploy/setup/requirements.lock deploy/setup/mlflow.lock
echo "the next make target installs what changed"
