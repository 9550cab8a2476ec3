#!/usr/bin/env bash
# Submit a job: ./spark-submit.sh JOB --env local --run-date 2010-12-10 [--set key=value …] [--dry-run]
# `./spark-submit.sh --help` lists the jobs. recsys/config/launch.py decides the command; this runs it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$here/.venv/bin/python
if [ ! -x "$python" ]; then
  echo "error: $here/.venv is not there: run \`make setup\` first" >&2
  exit 2
fi
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
export PYSPARK_PYTHON=${PYSPARK_PYTHON:-$python}

case "${1:-}" in '' | -h | --help) exec "$python" -m recsys.config.launch "$@" ;; esac

words=$(mktemp)
trap 'rm -f "$words"' EXIT
"$python" -m recsys.config.launch "$@" >"$words"
mapfile -d '' -t command <"$words"
rm -f "$words"
exec "${command[@]}"
