#!/usr/bin/env bash
# Everything that is checked without running the program: format, lint, types, import contracts, shields.
set -euo pipefail
# shellcheck source=scripts/setup-venv.sh
groups="test lint" . "$(dirname "$0")/setup-venv.sh"
ruff format --check .
ruff check .
find elemta -name "*.py" -print0 | xargs -0 -n 24 -P "$(nproc)" flake8-async --startable-in-context-manager=handle_signals
mypy
mypy plugins
lint-imports
python scripts/rfc-index --check # `scripts/rfc-index` alone writes docs/rfc-index.md anew
python scripts/reference --check # `scripts/reference` alone writes docs/configuration.md anew
python -m pytest -q tests/test_shields.py
if command -v shellcheck >/dev/null; then shellcheck -x -P scripts scripts/*.sh .ci/run; else echo "shellcheck is not installed: shell scripts were not checked"; fi
