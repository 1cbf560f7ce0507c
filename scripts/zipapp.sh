#!/usr/bin/env bash
# One file with elemta and all that it needs, for the Python that makes it: scripts/zipapp.sh [DEST]; then `./elemta.pyz run -c FILE`.
set -euo pipefail
out=$(realpath -m "${1:-dist/elemta.pyz}")
export ELEMTA_VENV=${ELEMTA_VENV:-var/release}
# shellcheck source=scripts/setup-venv.sh
groups="release" . "$(dirname "$0")/setup-venv.sh"
mkdir -p "$(dirname "$out")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python -m pip --quiet --disable-pip-version-check install --no-compile --target "$work/modules" .
# these say in which folder it was made
rm -rf "$work"/modules/bin "$work"/modules/*.dist-info/RECORD "$work"/modules/*.dist-info/direct_url.json
shiv --reproducible --console-script elemta --python "/usr/bin/env python3" --site-packages "$work/modules" --output-file "$out"
