#!/usr/bin/env bash
# The installer, in an environment of its own: .venv then holds the lock's packages and nothing else.
set -euo pipefail

"$PYTHON" -m venv --clear "$CACHE/uv"
"$CACHE/uv/bin/pip" install --quiet --disable-pip-version-check \
  --no-deps --require-hashes --only-binary :all: -r deploy/setup/uv.txt
"$CACHE/uv/bin/uv" --version
