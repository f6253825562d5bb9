#!/usr/bin/env bash
# Makes the virtual environment of a Python driver from requirements-VERSION.txt, for that driver's setup.
# usage: pip.sh CACHE DRIVER VERSION
set -euo pipefail
cache=${1:?} driver=${2:?} version=${3:?}
pins=$(cd "$(dirname "$0")/../$driver" && pwd)/requirements-$version.txt
to=$cache/clients/$driver-$version
cmp -s "$pins" "$to/requirements.txt" && exit 0
rm -rf "$to"
python3 -m venv "$to"
"$to/bin/pip" install --quiet --requirement "$pins"
cp "$pins" "$to/requirements.txt"
