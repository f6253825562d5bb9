#!/usr/bin/env bash
# Installs the packages of a JavaScript driver, pinned in its package.json, for that driver's setup.
# usage: npm.sh CACHE DRIVER PACKAGE VERSION
set -euo pipefail
cache=${1:?} driver=${2:?} package=${3:?} version=${4:?}
json=$(cd "$(dirname "$0")/../$driver" && pwd)/package.json
to=$cache/clients/$driver-$version
if ! grep -qF "\"$package\": \"$version\"" "$json"; then
  echo "$json pins another version of $package than $version" >&2
  exit 1
fi
cmp -s "$json" "$to/package.json" && exit 0
rm -rf "$to" "$to.part"
mkdir -p "$to.part"
cp "$json" "$to.part/"
npm install --prefix "$to.part" --no-audit --no-fund --no-package-lock --loglevel error
mv "$to.part" "$to"
