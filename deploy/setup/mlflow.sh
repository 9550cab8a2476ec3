#!/usr/bin/env bash
# MLflow's UI over the runs of an environment of conf (local by default), on 127.0.0.1 until Ctrl-C.
# The whole of MLflow asks for other versions than the lock holds, and nothing but this needs it: it has an environment
# of its own, .cache/mlflow, as mlflow.lock pins it.
set -euo pipefail
cd "$(dirname "$0")/../.."
readonly WHERE=.cache/mlflow PORT=${MLFLOW_PORT:-5000}

# Before anything is downloaded: is there something to show?
uri=$(.venv/bin/python -c '
import sys
from recsys.config import load_config
from recsys.errors import ConfigError
try:
    print(load_config(sys.argv[1], []).paths.mlflow_uri)
except ConfigError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)' "${1:-local}")
case $uri in
  http*) echo "the runs of ${1:-local} are at $uri, which has a UI of its own" >&2 && exit 2 ;;
  sqlite:///*) [[ -f ${uri#sqlite:///} ]] || { echo "no runs yet: there is no ${uri#sqlite:///}; train makes it" >&2 && exit 2; } ;;
esac

export UV_CACHE_DIR=${RECSYS_CACHE:-$PWD/.cache}/uv-cache UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never
# As setup.sh: where a mirror or a certificate is set for pip, it is meant for uv too.
if [[ -n ${PIP_INDEX_URL:-} ]]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}; fi
if [[ -n ${PIP_CERT:-} ]]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}; fi
if [[ ! -x $WHERE/bin/python ]]; then
  echo "MLflow's UI: about 250 MB of Python packages, once, in $WHERE" >&2
  read -r _ python < <(deploy/setup/find-python.sh)
  .cache/uv/bin/uv venv --quiet --python "$python" "$WHERE"
fi
.cache/uv/bin/uv pip sync --quiet --python "$WHERE/bin/python" --require-hashes deploy/setup/mlflow.lock

echo "MLflow's UI on 127.0.0.1:$PORT over $uri; Ctrl-C ends it" >&2
export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true GIT_PYTHON_REFRESH=quiet MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
unset PYTHONPATH
exec "$WHERE/bin/mlflow" server --host 127.0.0.1 --port "$PORT" --workers 1 --backend-store-uri "$uri"
