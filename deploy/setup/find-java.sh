#!/usr/bin/env bash
# Prints the home of a Java 17, or says what was found instead and exits 2.
#
#     JAVA_HOME=$(deploy/setup/find-java.sh) || exit
#
# Order: JAVA_HOME, the java on the PATH, the folders in SETUP_JVM_DIRS (colon-separated).
set -euo pipefail

readonly WANTED=17
readonly JVM_DIRS=${SETUP_JVM_DIRS-/usr/lib/jvm:/opt/java:/opt:${HOME:-/root}/.sdkman/candidates/java}

# The release file answers without starting a JVM, which would cost every `make` a tenth of a second.
major_of() {
  local home=$1 line="" version=""
  [[ -x $home/bin/java ]] || return 1
  if [[ -r $home/release ]]; then
    while IFS= read -r line; do
      [[ $line == JAVA_VERSION=* ]] && version=${line#*=} && version=${version//\"/}
    done <"$home/release"
  fi
  if [[ -z $version ]]; then
    line=$("$home/bin/java" -version 2>&1 </dev/null | grep -m1 version) || return 1
    version=${line#*\"} version=${version%%\"*}
  fi
  version=${version#1.} # Java 8 calls itself 1.8
  version=${version%%[!0-9]*}
  [[ -n $version ]] && printf '%s' "$version"
}

homes=()
[[ -n ${JAVA_HOME:-} ]] && homes+=("$JAVA_HOME")
if on_path=$(command -v java) && on_path=$(readlink -f "$on_path"); then
  homes+=("${on_path%/bin/java}")
fi
IFS=: read -ra folders <<<"$JVM_DIRS"
for folder in "${folders[@]}"; do
  for home in "$folder"/*; do
    [[ -x $home/bin/java && ! -L $home ]] && homes+=("$home")
  done
done

found=()
for home in "${homes[@]}"; do
  major=$(major_of "$home") || continue
  if [[ $major == "$WANTED" ]]; then
    printf '%s\n' "$home"
    exit 0
  fi
  found+=("Java $major at $home")
done

{
  if [[ ${#found[@]} -gt 0 ]]; then
    echo "Java $WANTED is needed; found only:"
    printf '  %s\n' "${found[@]}"
  else
    echo "Java $WANTED is needed; found none (looked at JAVA_HOME, java on the PATH, and in ${JVM_DIRS//:/, })."
  fi
  [[ -n ${JAVA_HOME:-} ]] && ! major_of "$JAVA_HOME" >/dev/null && echo "JAVA_HOME is $JAVA_HOME, and there is no bin/java in it."
  echo "On Debian or Ubuntu: apt-get install -y openjdk-$WANTED-jre-headless"
  echo "Where it is installed already: export JAVA_HOME=<folder of that Java $WANTED>"
} >&2
exit 2
