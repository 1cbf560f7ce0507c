#!/usr/bin/env bash
# Coverage-guided fuzzing for a bounded time, where atheris has a wheel for this Python.
set -euo pipefail
cd "$(dirname "$0")/.."
groups="fuzz" bash -c '. scripts/setup-venv.sh' ||
  echo "atheris could not be installed (see above): coverage-guided fuzzing is skipped"
exec scripts/test.sh -m fuzz "$@"
