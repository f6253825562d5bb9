#!/usr/bin/env bash
# Installs the clients and servers that the tests run against, into the folder given as
# argument where they are not system packages. Does nothing where all is there.
set -euo pipefail
cache=${1:?usage: deps.sh CACHE-FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$cache"

need=()
have() { command -v "$1" >/dev/null || need+=("$2"); }
have kcat kcat
have prometheus prometheus
have promtool prometheus
have javac default-jdk-headless
have mvn maven
have python3 python3
have node nodejs
have npm npm
have ip iproute2
have nft nftables
have nsenter util-linux
have strace strace
have mkfs.ext4 e2fsprogs
have mount mount
python3 -c 'import venv, ensurepip' 2>/dev/null || need+=(python3-venv)
if [ ${#need[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "the tests need these Debian packages: ${need[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
  # Debian starts a Prometheus of its own; the tests start theirs.
  systemctl disable --now prometheus >/dev/null 2>&1 || true
fi

# Kafka's own tools: one folder of jars a release.
for pom in "$here"/kafka-*.pom.xml; do
  release=$(basename "$pom" .pom.xml)
  if ! cmp -s "$pom" "$cache/$release/pom.xml"; then
    rm -rf "${cache:?}/$release"
    mvn -q -B -f "$pom" dependency:copy-dependencies -DoutputDirectory="$cache/$release.part"
    cp "$pom" "$cache/$release.part/pom.xml"
    mv "$cache/$release.part" "$cache/$release"
  fi
done

# Python's librdkafka binding.
if ! cmp -s "$here/requirements.txt" "$cache/python/requirements.txt"; then
  rm -rf "$cache/python"
  python3 -m venv "$cache/python"
  "$cache/python/bin/pip" install -q -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$cache/python/requirements.txt"
fi

# The client programs of the short form: each driver installs what its table names.
mkdir -p "$cache/clients"
for table in "$here"/clients/*/table; do
  sed '/^#/d' "$table" | while IFS=$'\t' read -r version form _; do
    if [ "$form" = short ]; then
      "$(dirname "$table")/setup" "$cache" "$version" </dev/null
    fi
  done
done
