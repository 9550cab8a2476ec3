#!/usr/bin/env bash
# Is this a machine the project runs on, and are the tools of system-packages.txt there?
# As root on Debian or Ubuntu, installs the packages that are missing; elsewhere names the command.
# Exit 2: what is missing is on stderr.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

refuse_platform() {
  {
    echo "This project runs on Linux x86_64 with glibc 2.31 or newer; this machine is $1."
    echo "What works: Debian 12 or Ubuntu 22.04 and newer on x86_64, on a machine, a virtual machine, or in a container"
    echo "(docker run --platform linux/amd64 -it -v \"\$PWD\":/src -w /src python:3.11-bookworm bash, then the same make command)."
    echo "Why: docs/setup.md, \"Where it runs\"."
  } >&2
  exit 2
}

system=$(uname -s) machine=$(uname -m)
[[ $system == Linux && $machine == x86_64 ]] || refuse_platform "$system $machine"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || refuse_platform "Linux x86_64 without glibc (Alpine and the like)"
version=${libc#glibc }
if ((${version%%.*} == 2 && 10#${version#*.} < 31)); then
  refuse_platform "Linux x86_64 with $libc"
fi

# Fills problems (what a person reads) and packages (what apt-get takes).
check_tools() {
  problems=() packages=()
  local kind what package use reason python="" lacks=""
  while read -r kind what package use; do
    [[ -z $kind || $kind == \#* ]] && continue
    reason=""
    case $kind in
      command) command -v "$what" >/dev/null || reason="$what: no such command" ;;
      java) reason=$("$here/find-java.sh" 2>&1 >/dev/null) || true ;;
      python)
        if reason=$("$here/find-python.sh" 2>&1); then
          read -r python lacks <<<"$reason"
          reason=""
        fi ;;
      module | header)
        # Without a Python there is nobody to ask; its headers and venv are then wanted as well.
        if [[ -z $python ]]; then
          packages+=("$package")
        elif [[ ,$lacks, == *,"$what",* ]]; then
          reason="$what: $python has none"
        fi ;;
      *) reason="system-packages.txt: unknown kind '$kind'; known: command, java, python, module, header" ;;
    esac
    if [[ -n $reason ]]; then
      problems+=("${reason//$'\n'/$'\n'    }"$'\n'"    needed for: $use")
      [[ " ${packages[*]-} " == *" $package "* ]] || packages+=("$package")
    fi
  done <"$here/system-packages.txt"
}

check_tools
[[ ${#problems[@]} -eq 0 ]] && exit 0

echo "missing on this machine:" >&2
printf '  %s\n' "${problems[@]}" >&2
readonly INSTALL="apt-get install -y --no-install-recommends ${packages[*]}"
debian_like=false
grep -qsE '^(ID|ID_LIKE)=.*(debian|ubuntu)' "${RECSYS_OS_RELEASE:-/etc/os-release}" && debian_like=true

if ! $debian_like || ! command -v apt-get >/dev/null; then
  echo "Install these (Debian's names): ${packages[*]}; then run the same command again." >&2
  exit 2
fi
if [[ $(id -u) -ne 0 ]]; then
  echo "Run this, then the same command again:" >&2
  echo "  sudo apt-get update && sudo $INSTALL" >&2
  exit 2
fi

echo "running as root on Debian or Ubuntu, so installing them: $INSTALL" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >&2 || echo "apt-get update failed; trying with the package lists that are here" >&2
# shellcheck disable=SC2086  # the packages are words
$INSTALL >&2 || {
  echo "apt-get could not install: ${packages[*]}" >&2
  echo "Ubuntu 24.04 and newer carry no Python 3.11: install one (pyenv install 3.11) and export RECSYS_PYTHON=<its path>." >&2
  exit 2
}
hash -r
check_tools
[[ ${#problems[@]} -eq 0 ]] && exit 0
echo "still missing after the installation:" >&2
printf '  %s\n' "${problems[@]}" >&2
exit 2
