#!/bin/sh
# create_venv.sh FOLDER [PYTHON]: a virtual environment with a Python that the ROS 2 wheels are made for, or one line
# that says what is missing.
set -eu

stop() {
    echo "grex_ros: $1" >&2
    exit 1
}

suits() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

folder=$1
python=${2:-}

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] ||
    stop "the ROS 2 wheels exist for Linux on x86_64 only; elsewhere build in a ROS workspace with colcon (README.md)"

case $PWD in
*" "*) stop "the path of this checkout has a space in it, which scripts cannot name as their interpreter; move it" ;;
esac

if [ -n "$python" ]; then
    command -v "$python" >/dev/null || stop "PYTHON=$python is not to be found"
    suits "$python" || stop "PYTHON=$python is not Python 3.10 to 3.13"
else
    for python in python3 python3.12 python3.11 python3.13 python3.10 none; do
        if suits "$python"; then break; fi
    done
    [ "$python" != none ] || stop "no Python 3.10 to 3.13 found: install one (apt install python3) or set PYTHON="
fi

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
header='import os, sysconfig; print(os.path.join(sysconfig.get_path("include"), "Python.h"))'
missing=
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing="python$version-venv"
[ -f "$("$python" -c "$header")" ] || missing="$missing python$version-dev"
for compiler in gcc g++; do
    command -v "$compiler" >/dev/null || missing="$missing $compiler"
done
[ -z "$missing" ] || stop "missing on this machine; as root: apt install $(echo $missing)"

"$python" -m venv "$folder" || stop "$python -m venv $folder failed"
