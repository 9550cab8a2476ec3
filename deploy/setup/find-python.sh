#!/usr/bin/env bash
# Prints "LACKS EXECUTABLE" for a Python 3.11, or says what was found instead and exits 2.
# LACKS is "-", or what that Python lacks, comma-separated: ensurepip, Python.h.
#
# Order: SETUP_PYTHON, then every python3.11 and python3 on the PATH. The first that lacks nothing wins.
set -euo pipefail

readonly WANTED=3.11
# The base executable: a virtual environment that is active now may be the one that is replaced.
readonly ASK='
import importlib.util, os, sys, sysconfig
lacks = [] if importlib.util.find_spec("ensurepip") else ["ensurepip"]
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    lacks.append("Python.h")
version = "%d.%d" % sys.version_info[:2]
print(version, ",".join(lacks) or "-", getattr(sys, "_base_executable", sys.executable))
'

second_best="" found=()
mapfile -t paths < <(type -aP ${SETUP_PYTHON:+"$SETUP_PYTHON"} python3.11 python3)
for path in "${paths[@]}"; do
  # A pyenv shim exists for versions that are not active; it fails, and the next one is asked.
  read -r version lacks executable < <("$path" -I -c "$ASK" 2>/dev/null) || continue
  if [[ $version != "$WANTED" ]]; then
    found+=("Python $version at $executable")
  elif [[ $lacks == - ]]; then
    echo "$lacks $executable"
    exit 0
  elif [[ -z $second_best ]]; then
    second_best="$lacks $executable"
  fi
done
if [[ -n $second_best ]]; then
  echo "$second_best"
  exit 0
fi

{
  if [[ ${#found[@]} -gt 0 ]]; then
    echo "Python $WANTED is needed; found only:"
    printf '  %s\n' "${found[@]}" | sort -u
  else
    echo "Python $WANTED is needed; found none (looked for SETUP_PYTHON, python3.11 and python3 on the PATH)."
  fi
  echo "On Debian 12: apt-get install -y python3.11 python3.11-venv python3.11-dev"
  echo "Elsewhere: install Python $WANTED (pyenv install $WANTED), then export SETUP_PYTHON=<path of its python3.11>"
} >&2
exit 2
