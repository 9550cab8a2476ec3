#!/usr/bin/env bash
# Sets up everything that the commands of the README need. `make setup` calls it, and so does every
# target that needs it. Run again it finds in a fraction of a second that nothing is to be done; after an
# interruption it goes on with the step that was interrupted.
#
# A step is deploy/setup/steps/NAME.sh. Its stamp, .cache/stamps/NAME, holds the hash of its inputs and is
# written when the step has ended well, so a changed input or a missing stamp means: do it (again).
#
# RECSYS_CACHE   folder for the downloads and wheels that several clones may share (default .cache)
# JAVA_HOME, RECSYS_PYTHON, RECSYS_IVY_SETTINGS: see find-java.sh, find-python.sh, steps/jars.sh
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
export ROOT
export CACHE=$ROOT/.cache
readonly STAMPS=$CACHE/stamps LOGS=$CACHE/logs HERE=deploy/setup

# What each step does, what it downloads, what decides its result, and what must be there afterwards.
readonly STEPS=(uv packages jars horovod project)
declare -A does=(
  [uv]="the package installer, in .cache/uv"
  [packages]="Python packages as the lock pins them, in .venv"
  [jars]="Delta Lake's seven JARs, in .cache/jars"
  [horovod]="Horovod for this torch: compiled once, then kept in .cache/wheels; about 4 minutes on 2 cores"
  [project]="this project in .venv, with its command recsys"
)
declare -A downloads=(
  [uv]="17 MB" [packages]="2,900 MB" [jars]="13 MB" [horovod]="4 MB" [project]="nothing"
)
packages_key() { cat "$HERE/requirements.lock" "$HERE/steps/packages.sh" && echo "$ROOT"; }
inputs_of() {
  case $1 in
    uv) cat "$HERE/uv.txt" "$HERE/steps/uv.sh" && echo "$ROOT" ;;
    packages) packages_key ;;
    jars) cat "$HERE/jars.ivy.xml" "$HERE/jars.sha256" ;;
    # Both live inside .venv, and a changed lock makes a new one of it.
    horovod) packages_key && cat "$HERE/steps/horovod.sh" "$HERE"/horovod-*.patch && echo "${HOROVOD_GPU_OPERATIONS:-}" ;;
    project) packages_key && cat setup.py pyproject.toml "$HERE/steps/project.sh" ;;
  esac
}
is_there() {
  case $1 in
    uv) [[ -x $CACHE/uv/bin/uv ]] ;;
    packages) [[ -x .venv/bin/python ]] ;;
    jars) [[ -d $CACHE/jars ]] && (cd "$CACHE/jars" && sha256sum --check --status "$ROOT/$HERE/jars.sha256" 2>/dev/null) ;;
    horovod) compgen -G ".venv/lib/python3.11/site-packages/horovod/torch/mpi_lib_v2*.so" >/dev/null ;;
    project) [[ -x .venv/bin/recsys ]] ;;
  esac
}

hash_of() {
  local hash
  read -r hash _ < <(inputs_of "$1" | sha256sum)
  echo "$hash"
}
is_done() {
  local stamp=""
  [[ -f $STAMPS/$1 ]] && read -r stamp <"$STAMPS/$1" && [[ $stamp == "$(hash_of "$1")" ]] && is_there "$1"
}
find_due() {
  due=()
  local name
  for name in "${STEPS[@]}"; do
    is_done "$name" || due+=("$name")
  done
}
stop_if_nothing_is_due() {
  find_due
  if [[ ${#due[@]} -eq 0 ]]; then
    echo "set-up: nothing to do"
    exit 0
  fi
}

# Java may go missing after the set-up, and a job would say so a minute later.
"$HERE/find-java.sh" >/dev/null || exit 2
stop_if_nothing_is_due

"$HERE/check-machine.sh"
read -r PYTHON _ < <("$HERE/find-python.sh")
export PYTHON

mkdir -p "$STAMPS" "$LOGS"
exec 9>"$CACHE/setup.lock"
if ! flock --nonblock 9; then
  echo "set-up: another one is running in $ROOT; waiting for it"
  flock 9
fi
stop_if_nothing_is_due

# uv's cache beside .venv, on the same disk: the files are shared by hard links, and the packages can be
# installed again without a network.
export UV_CACHE_DIR=${RECSYS_CACHE:-$CACHE}/uv-cache
export PATH=$CACHE/uv/bin:$PATH
export UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
# uv does not read pip's settings; where a mirror or a certificate is set for pip, it is meant for us too.
if [[ -n ${PIP_INDEX_URL:-} ]]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}; fi
if [[ -n ${PIP_CERT:-} ]]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}; fi

name=""
trap 'echo; echo "set-up: interrupted in step $name; the same command goes on from there" >&2; exit 130' INT TERM

number=0 begun=$SECONDS
for name in "${due[@]}"; do
  number=$((number + 1)) started=$SECONDS log=$LOGS/$name.log
  echo "set-up $number/${#due[@]}: ${does[$name]}; downloads ${downloads[$name]}"
  rm -f "$STAMPS/$name"
  hash=$(hash_of "$name")
  if ! "$HERE/steps/$name.sh" >"$log" 2>&1 9>&-; then
    tail -n 30 "$log" >&2
    echo "set-up: step $name failed after $((SECONDS - started)) s; all of its output: $log" >&2
    echo "set-up: the steps before it are kept; the same command goes on from there" >&2
    exit 1
  fi
  echo "$hash" >"$STAMPS/$name.new"
  mv "$STAMPS/$name.new" "$STAMPS/$name"
  echo "             done in $((SECONDS - started)) s"
done
echo "set-up: ready after $((SECONDS - begun)) s"
