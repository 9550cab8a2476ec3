#!/usr/bin/env bash
# The packages of bench-python.txt, into .venv beside those of the lock. A changed lock takes them out again, as it does
# all that it does not name: `make setup-bench` brings them back.
set -euo pipefail
cd "$(dirname "$0")/../.."

export UV_CACHE_DIR=${RECSYS_CACHE:-$PWD/.cache}/uv-cache UV_NO_CONFIG=1
# As setup.sh: where a mirror or a certificate is set for pip, it is meant for uv too.
if [[ -n ${PIP_INDEX_URL:-} ]]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}; fi
if [[ -n ${PIP_CERT:-} ]]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}; fi
.cache/uv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r deploy/setup/bench-python.txt
