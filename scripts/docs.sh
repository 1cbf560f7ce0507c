#!/usr/bin/env bash
# Builds the documents as a site, into var/site or the folder given; a link that leads nowhere is an error.
set -euo pipefail
# shellcheck source=scripts/setup-venv.sh
ELEMTA_VENV=${ELEMTA_VENV:-var/docs} groups="docs" . "$(dirname "$0")/setup-venv.sh"
export NO_MKDOCS_2_WARNING=1 # not ours to act upon in each run
mkdocs build --strict --quiet --site-dir "$(realpath -m "${1:-var/site}")"
