#!/usr/bin/env bash
# Everything that is checked without running the program: format, lint, types, import contracts, shields.
set -euo pipefail
groups="test lint" . "$(dirname "$0")/setup-venv.sh"
ruff format --check .
ruff check .
flake8-async elemta
mypy
lint-imports
python -m pytest -q tests/test_shields.py
if command -v shellcheck >/dev/null; then shellcheck -x scripts/*.sh .ci/run; else echo "shellcheck is not installed: shell scripts were not checked"; fi
