#!/usr/bin/env bash
# Sets up and runs the test suite, a process for each processor, then one with real peers; arguments go to pytest, which then is
# one process unless they say -n. Long proofs: scripts/test.sh -m proof; fuzzing for a bounded time: scripts/test.sh -m fuzz;
# packages, units and images, as root: scripts/test.sh -m deploy
set -euo pipefail
# shellcheck source=scripts/setup-venv.sh
groups="test lint" . "$(dirname "$0")/setup-venv.sh"
export PYTHONDONTWRITEBYTECODE= # hundreds of short processes are started: none shall compile what another has compiled
if [ $# -gt 0 ]; then exec python -m pytest "$@"; fi
status=0
python -m pytest -n auto --maxprocesses 8 --dist loadfile -m "not proof and not fuzz and not deploy" --ignore tests/interop || status=$?
# daemons of others, which take their time to start and to answer: one after the other
python -m pytest -m "not proof and not fuzz and not deploy" tests/interop || status=$?
exit "$status"
