#!/usr/bin/env bash
# Builds the source distribution and from it the wheel, into dist/ or the folder given, and checks both.
set -euo pipefail
out=$(realpath -m "${1:-dist}")
export ELEMTA_VENV=${ELEMTA_VENV:-var/release}
# shellcheck source=scripts/setup-venv.sh
groups="release" . "$(dirname "$0")/setup-venv.sh"
rm -f "$out"/elemta-*.whl "$out"/elemta-*.tar.gz
python -m build --outdir "$out" .
twine check --strict "$out"/elemta-*.whl "$out"/elemta-*.tar.gz
check-wheel-contents "$out"/elemta-*.whl
