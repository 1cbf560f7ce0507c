#!/usr/bin/env bash
# Sets up and runs the test suite, first in a process for each processor, then in one; arguments go to pytest, which then is
# one process unless they say -n. Long proofs: scripts/test.sh -m proof; fuzzing for a bounded time: scripts/test.sh -m fuzz;
# packages, units and images, as root: scripts/test.sh -m deploy
set -euo pipefail
# shellcheck source=scripts/setup-venv.sh
groups="test lint" . "$(dirname "$0")/setup-venv.sh"
export PYTHONDONTWRITEBYTECODE= # hundreds of short processes are started: none shall compile what another has compiled
if [ $# -gt 0 ]; then exec python -m pytest "$@"; fi
# Daemons of others take their time to start and to answer, and some tests measure it: they come after the rest, one by one.
alone=(tests/interop tests/plugin/test_process_chaos.py tests/app/test_app_plugins.py)
status=0
python -m pytest -n auto --maxprocesses 8 --dist loadfile -m "not proof and not fuzz and not deploy" "${alone[@]/#/--ignore=}" || status=$?
python -m pytest -m "not proof and not fuzz and not deploy" "${alone[@]}" || status=$?
exit "$status"
