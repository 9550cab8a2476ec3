#!/usr/bin/env bash
# Sets up everything that the commands of the README need. `make setup` calls it, and so does every
# target that needs it. Run again it finds in a fraction of a second that nothing is to be done; after an
# interruption it goes on with the step that was interrupted.
#
# A step is deploy/setup/steps/NAME.sh. Its stamp, .cache/stamps/NAME, holds the hash of its inputs and is
# written when the step has ended well, so a changed input or a missing stamp means: do it (again).
#
# RECSYS_CACHE   folder for the downloads and wheels that several clones may share (default .cache)
# JAVA_HOME, SETUP_PYTHON, SETUP_IVY_SETTINGS: see find-java.sh, find-python.sh, steps/jars.sh
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$ROOT"
deploy/setup/check-platform.sh || exit # first: macOS brings a bash that cannot read the rest

export ROOT CACHE=$ROOT/.cache
readonly STAMPS=$CACHE/stamps LOGS=$CACHE/logs HERE=deploy/setup
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV

# What each step does, what it downloads, what decides its result, and what must be there afterwards.
readonly STEPS=(uv packages jars horovod project kernel)
declare -A does=(
  [uv]="the package installer, in .cache/uv"
  [packages]="Python packages as the lock pins them, in .venv"
  [jars]="Delta Lake's seven JARs, in .cache/jars"
  [horovod]="Horovod for this torch: compiled once, then kept in .cache/wheels; about 3 minutes on 2 cores"
  [project]="this project in .venv, with its command recsys"
  [kernel]="the embedding tables' row operations, compiled"
)
declare -A downloads=(
  [uv]="17 MB" [packages]="at most 3,500 MB" [jars]="13 MB" [horovod]="at most 4 MB" [project]="at most 1 MB" [kernel]="nothing"
)
# .venv holds paths of this checkout; Horovod and the project live in it and go when it is synchronised.
packages_key() { cat "$HERE/requirements.lock" && echo "$ROOT"; }
inputs_of() {
  case $1 in
    uv) cat "$HERE/uv.txt" && echo "$ROOT" ;;
    packages) packages_key ;;
    jars) cat "$HERE/jars.ivy.xml" "$HERE/jars.sha256" ;;
    horovod) packages_key && cat "$HERE"/horovod-*.patch && echo "${HOROVOD_GPU_OPERATIONS:-}" ;;
    project) packages_key && cat setup.py deploy/setup/steps/project.sh ;;
    kernel)
      cat "$HERE/steps/kernel.sh" recsys/row_hashes.cpp recsys/release/encode.cpp recsys/embeddings/rows.cpp \
        recsys/scoring/select.cpp recsys/scoring/*.h
      echo "$(grep -ow -m1 -e avx2 -e avx512vl /proc/cpuinfo)"
      ;;
  esac
}
is_there() {
  case $1 in
    uv) [[ -x $CACHE/uv/bin/uv ]] ;;
    packages) [[ -x .venv/bin/python ]] ;;
    jars) [[ -d $CACHE/jars ]] && (cd "$CACHE/jars" && sha256sum --check --status "$ROOT/$HERE/jars.sha256" 2>/dev/null) ;;
    horovod) compgen -G ".venv/lib/python3.11/site-packages/horovod/torch/mpi_lib_v2*.so" >/dev/null ;;
    project) [[ -x .venv/bin/recsys ]] ;;
    kernel)
      [[ -f recsys/librowhashes.so && -f recsys/release/libencode.so && -f recsys/embeddings/librows.so ]] &&
        [[ -f recsys/scoring/libselect.so ]]
      ;;
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

find_due
if [[ ${#due[@]} -eq 0 ]] && "$HERE/find-java.sh" >/dev/null 2>&1; then
  echo "set-up: nothing to do"
  exit 0
fi

"$HERE/check-machine.sh" || exit
read -r _ PYTHON < <("$HERE/find-python.sh")
export PYTHON

mkdir -p "$STAMPS" "$LOGS"
exec 9>"$CACHE/setup.lock"
if ! flock --nonblock 9; then
  echo "set-up: another one is running in $ROOT; waiting for it"
  flock 9
fi
find_due # the other one may have done it all

# uv's cache beside .venv, on the same disk: the files are shared by hard links, and the packages can be
# installed again without a network.
export UV_CACHE_DIR=${RECSYS_CACHE:-$CACHE}/uv-cache
export PATH=$CACHE/uv/bin:$PATH
export UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
# uv does not read pip's settings; where a mirror or a certificate is set for pip, it is meant for us too.
if [[ -n ${PIP_INDEX_URL:-} ]]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}; fi
if [[ -n ${PIP_CERT:-} ]]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}; fi

# On a terminal: how long it has taken so far, and the last line of what the step says.
show_progress() {
  local line
  while sleep 1 && kill -0 $$ 2>/dev/null; do
    line=$(tail -n 1 "$log" | tr -d '\r')
    printf '\r\033[K  %4d s  %.90s' $((SECONDS - started)) "$line"
  done
}
hide_progress() {
  [[ -z $progress ]] && return
  kill "$progress" 2>/dev/null
  wait "$progress" 2>/dev/null || true
  progress=""
  printf '\r\033[K'
}

name="" progress=""
trap 'hide_progress; echo "set-up: interrupted in step $name; the same command goes on from there" >&2; exit 130' INT TERM

number=0 begun=$SECONDS
for name in "${due[@]}"; do
  number=$((number + 1)) started=$SECONDS log=$LOGS/$name.log
  echo "set-up $number/${#due[@]}: ${does[$name]}; downloads ${downloads[$name]}"
  rm -f "$STAMPS/$name"
  hash=$(hash_of "$name")
  : >"$log"
  [[ -t 1 ]] && { show_progress 9>&- & progress=$!; }
  # The step keeps the lock (9) open: should this script be killed, a second one waits for what goes on.
  "$HERE/steps/$name.sh" >"$log" 2>&1 && failed=false || failed=true
  hide_progress
  if $failed; then
    tail -n 30 "$log" >&2
    echo "set-up: step $name failed after $((SECONDS - started)) s; all it said: $log" >&2
    echo "set-up: the steps before it are kept; the same command goes on from there" >&2
    exit 1
  fi
  echo "$hash" >"$STAMPS/$name.new"
  mv "$STAMPS/$name.new" "$STAMPS/$name"
  echo "    done in $((SECONDS - started)) s"
done
echo "set-up: ready after $((SECONDS - begun)) s"
