#!/usr/bin/env bash
# What weightzoo does on this GPU, in at most five minutes: benchmarks/speed/gpu_suite.sh [PART ...]
# Needs the package's sources, torch, h5py, numpy and tqdm; pytest for the part `tests`.
# The checkout must be importable as `weightzoo`; a link in a temporary folder makes it so.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$root" "$work/weightzoo"
export PYTHONPATH="$work${PYTHONPATH:+:$PYTHONPATH}"
exec_python=${PYTHON:-python3}
"$exec_python" "$root/benchmarks/speed/gpu_suite.py" "$@"
