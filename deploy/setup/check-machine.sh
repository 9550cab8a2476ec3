#!/usr/bin/env bash
# Are the tools of system-packages.txt on this machine?
# As root on Debian or Ubuntu, installs the packages that are missing; elsewhere names the command.
# Exit 2: what is missing is on stderr. What only tests need may be missing: that is said, and no more.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
readonly LIST=${1:-system-packages.txt}

# Fills problems (what a person reads) and packages (what apt-get takes); wishes is what only tests need.
check_tools() {
  problems=() packages=() wishes=()
  local kind what package use reason python="" lacks=""
  while read -r kind what package use; do
    [[ -z $kind || $kind == \#* ]] && continue
    reason=""
    case $kind in
      command) command -v "$what" >/dev/null || reason="$what: no such command" ;;
      tests) command -v "$what" >/dev/null || wishes+=("$package") ;;
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
      *) reason="$LIST: unknown kind '$kind'; known: command, tests, java, python, module, header" ;;
    esac
    if [[ -n $reason ]]; then
      problems+=("${reason//$'\n'/$'\n'    }"$'\n'"    needed for: $use")
      [[ " ${packages[*]-} " == *" $package "* ]] || packages+=("$package")
    fi
  done <"$here/$LIST"
}

debian_like() {
  grep -qsE '^(ID|ID_LIKE)=.*(debian|ubuntu)' "${SETUP_OS_RELEASE:-/etc/os-release}" && command -v apt-get >/dev/null
}
readonly INSTALL="apt-get install -y --no-install-recommends"
updated=false
install() {
  echo "running as root on Debian or Ubuntu, so installing them: $INSTALL $*" >&2
  export DEBIAN_FRONTEND=noninteractive
  $updated || apt-get update -qq >&2 || echo "apt-get update failed; trying with the package lists that are here" >&2
  updated=true
  $INSTALL "$@" -qq -o Dpkg::Use-Pty=0 >&2
}

need() {
  echo "missing on this machine:" >&2
  printf '  %s\n' "${problems[@]}" >&2
  if ! debian_like; then
    echo "Install these (Debian's names): ${packages[*]}; then run the same command again." >&2
    exit 2
  fi
  if [[ $(id -u) -ne 0 ]]; then
    echo "Run this, then the same command again:" >&2
    echo "  sudo apt-get update && sudo $INSTALL ${packages[*]}" >&2
    exit 2
  fi
  install "${packages[@]}" || {
    echo "apt-get could not install: ${packages[*]}" >&2
    echo "Ubuntu 24.04 and newer carry no Python 3.11: install one (pyenv install 3.11) and export SETUP_PYTHON=<its path>." >&2
    exit 2
  }
  hash -r
  check_tools
  [[ ${#problems[@]} -eq 0 ]] && return
  echo "still missing after the installation:" >&2
  printf '  %s\n' "${problems[@]}" >&2
  exit 2
}

wish() {
  echo "wanted by tests, and not on this machine: ${wishes[*]}" >&2
  if debian_like && [[ $(id -u) -eq 0 ]] && install "${wishes[@]}"; then return; fi
  echo "Going on without; the tests that need them are skipped. Debian's packages: ${wishes[*]}" >&2
}

check_tools
[[ ${#problems[@]} -eq 0 ]] || need
[[ ${#wishes[@]} -eq 0 ]] || wish
