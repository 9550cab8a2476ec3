#!/usr/bin/env bash
# Delta's own seven JARs, from Maven Central, through the Ivy that Spark brings along.
# deploy/setup/jars.ivy.xml names them; jars.sha256 is what is accepted.
set -euo pipefail

java_home=$(deploy/setup/find-java.sh)
spark_jars=$(echo .venv/lib/python3.11/site-packages/pyspark/jars)
fetched=$CACHE/jars.fetched
rm -rf "$fetched" "$CACHE/ivy"
mkdir -p "$fetched"

# The settings know one repository: Ivy fails where ~/.m2 holds a POM without its JAR.
"$java_home/bin/java" -cp "$(echo "$spark_jars"/ivy-*.jar):$(echo "$spark_jars"/commons-cli-*.jar)" \
  org.apache.ivy.Main -warn \
  -settings "${SETUP_IVY_SETTINGS:-deploy/setup/jars.ivysettings.xml}" \
  -ivy deploy/setup/jars.ivy.xml -cache "$CACHE/ivy" \
  -retrieve "$fetched/[artifact]-[revision].[ext]"

while read -r wanted name; do
  if [[ ! -f $fetched/$name ]]; then
    echo "$name was not fetched; deploy/setup/jars.ivy.xml and jars.sha256 must name the same files" >&2
    exit 1
  fi
  read -r found _ < <(sha256sum "$fetched/$name")
  if [[ $found != "$wanted" ]]; then
    echo "$name is not the file that was pinned:" >&2
    echo "  wanted sha256 $wanted (deploy/setup/jars.sha256)" >&2
    echo "  found  sha256 $found" >&2
    echo "It was not installed. A proxy or mirror that rewrites files is the usual cause; try again without it." >&2
    rm -rf "$fetched"
    exit 1
  fi
done <deploy/setup/jars.sha256

rm -rf "$CACHE/jars" "$CACHE/ivy"
mv "$fetched" "$CACHE/jars"
