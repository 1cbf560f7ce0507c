#!/usr/bin/env bash
# Measures: scripts/bench.sh [NAME...], each a file of benchmarks/ without its .py; without names those that need nothing but Python.
set -euo pipefail
# shellcheck source=scripts/setup-venv.sh
groups="test" . "$(dirname "$0")/setup-venv.sh"
[ $# -gt 0 ] || set -- protocol spool idle pipelined
for name in "$@"; do
  echo "== $name"
  python "benchmarks/$name.py"
done
