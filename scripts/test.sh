#!/usr/bin/env bash
# Sets up and runs the test suite; arguments go to pytest. Long proofs: scripts/test.sh -m proof;
# fuzzing for a bounded time: scripts/test.sh -m fuzz; packages, units and images, as root: scripts/test.sh -m deploy
set -euo pipefail
# shellcheck source=scripts/setup-venv.sh
groups="test lint" . "$(dirname "$0")/setup-venv.sh"
if [ $# -gt 0 ]; then exec python -m pytest "$@"; fi
exec python -m pytest -m "not proof and not fuzz and not deploy"
