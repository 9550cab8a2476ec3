#!/usr/bin/env bash
# Submit a job: ./spark-submit.sh JOB --env local --run-date 2010-12-10 [--set key=value …] [--dry-run]
# `./spark-submit.sh --help` lists the jobs. recsys/config/launch.py decides master, memory, JARs and code.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$here/.venv/bin/python
if [ ! -x "$python" ]; then
  echo "error: $here/.venv is not there: run \`make setup\` first" >&2
  exit 2
fi

# Classes of a person's own are found in the folder that the job is called from, too, after all others.
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}:$PWD
export RECSYS_CALLED_FROM=$PWD # where a file that is named on the command line lies
cd "$here" # relative paths in conf are relative to the checkout
export PYSPARK_PYTHON=${PYSPARK_PYTHON:-$python}
exec "$python" -m recsys.config.launch "$@"
