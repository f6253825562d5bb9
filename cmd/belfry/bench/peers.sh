#!/usr/bin/env bash
# Installs whom `make bench` compares with into the folder given as argument: Apache Kafka's
# jars, the NATS server and the bench's client for it. Does nothing where all is there.
# klite, kafka_exporter and kminion are taken from the folder's peers/ or from PATH where they
# are installed; the bench says which of them it went without.
set -euo pipefail
cache=${1:?usage: peers.sh CACHE-FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$cache/peers"

need=()
command -v java >/dev/null || need+=(default-jre-headless)
command -v mvn >/dev/null || need+=(maven)
if [ ${#need[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "the bench needs these Debian packages: ${need[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

kafka=kafka-4.3.1
pom="$here/../compat/$kafka.pom.xml"
if ! cmp -s "$pom" "$cache/$kafka/pom.xml"; then
  rm -rf "${cache:?}/$kafka" "$cache/$kafka.part"
  mvn -q -B -f "$pom" dependency:copy-dependencies -DoutputDirectory="$cache/$kafka.part"
  cp "$pom" "$cache/$kafka.part/pom.xml"
  mv "$cache/$kafka.part" "$cache/$kafka"
fi

nats=v2.15.2
if [ ! -x "$cache/peers/nats-server-$nats/nats-server" ]; then
  part="$cache/peers/nats-server-$nats.part"
  (cd / && GOBIN="$part" CGO_ENABLED=0 go install "github.com/nats-io/nats-server/v2@$nats")
  mv "$part" "$cache/peers/nats-server-$nats"
fi
# Go's own cache makes this a matter of a moment where nothing has changed.
(cd "$here/nats" && CGO_ENABLED=0 go build -trimpath -o "$cache/peers/bench-nats" .)

for name in klite kafka_exporter kminion; do
  [ -x "$cache/peers/$name" ] || command -v "$name" >/dev/null || echo "$name is not installed: the bench goes without it" >&2
done
