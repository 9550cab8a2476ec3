#!/usr/bin/env bash
# .venv = the lock, exactly: what it does not name is removed. Horovod has no wheel and comes later.
set -euo pipefail

# A disk that fills up in the middle of this is named by none of the messages that follow.
readonly NEEDED_MB=9000
free_mb=$(df -Pm . | awk 'NR == 2 {print $4}')
if [[ ! -x .venv/bin/python ]] && ((free_mb < NEEDED_MB)); then
  echo "not enough disk: $free_mb MB are free in $ROOT, $NEEDED_MB MB are wanted" >&2
  echo "(.venv 6,100, .cache 1,500, the rest is passing). Free some, or clone onto a larger disk." >&2
  exit 1
fi

if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
  uv venv --quiet --clear --python "$PYTHON" .venv
fi
# No dependency is resolved here: petastorm's metadata contradicts torch's (docs/setup.md, "The lock").
deploy/setup/lock-without-horovod.sh >"$CACHE/lock-without-horovod.txt"
# Every job, rank and worker is a process that imports torch, Spark or both: compiled once, here, they start in half the
# time, also where PYTHONDONTWRITEBYTECODE is set.
uv pip sync --compile-bytecode --python .venv/bin/python --require-hashes "$CACHE/lock-without-horovod.txt"
