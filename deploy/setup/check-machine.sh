#!/usr/bin/env bash
# Are the tools of system-packages.txt on this machine?
# As root on Debian or Ubuntu, installs the packages that are missing; elsewhere names the command.
# Exit 2: what is missing is on stderr.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

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
          read -r lacks python <<<"$reason"
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
grep -qsE '^(ID|ID_LIKE)=.*(debian|ubuntu)' "${SETUP_OS_RELEASE:-/etc/os-release}" && debian_like=true

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
apt-get update -qq >&2 || echo "apt-get update failed; trying with the package lists that are here" >&2
# shellcheck disable=SC2086  # the packages are words
$INSTALL -qq -o Dpkg::Use-Pty=0 >&2 || {
  echo "apt-get could not install: ${packages[*]}" >&2
  echo "Ubuntu 24.04 and newer carry no Python 3.11: install one (pyenv install 3.11) and export SETUP_PYTHON=<its path>." >&2
  exit 2
}
hash -r
check_tools
[[ ${#problems[@]} -eq 0 ]] && exit 0
echo "still missing after the installation:" >&2
printf '  %s\n' "${problems[@]}" >&2
exit 2
