#!/usr/bin/env bash
# Builds a Go driver for that driver's setup. go.mod pins the newest release, go-VERSION.mod an older
# one, which is built with the tag "old".
# usage: go.sh CACHE DRIVER MODULE VERSION
set -euo pipefail
mkdir -p "${1:?}/clients"
cache=$(cd "$1" && pwd) driver=${2:?} module=${3:?} version=${4:?}
cd "$(dirname "$0")/../$driver"
mod=go.mod tags=
if [ -f "go-$version.mod" ]; then
  mod=go-$version.mod tags=old
fi
if ! grep -qF "$module v$version" "$mod"; then
  echo "$driver/$mod pins another version of $module than $version" >&2
  exit 1
fi
to=$cache/clients/$driver-$version
inputs=$(cat ../features/go.sh ../features/*.go ./*.go "$mod" "${mod%.mod}.sum" | sha256sum)
[ "$(cat "$to/inputs" 2>/dev/null)" = "$inputs" ] && exit 0
rm -rf "$to"
mkdir -p "$to"
go build -modfile "$mod" -tags "$tags" -o "$to/driver" .
echo "$inputs" >"$to/inputs"
