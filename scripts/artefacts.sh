#!/usr/bin/env bash
# Checks without running anything what deploys elemta: Dockerfile, compose file, manifests, chart, workflows, YAML, shell.
set -euo pipefail
# shellcheck source=scripts/setup-venv.sh
ELEMTA_VENV=${ELEMTA_VENV:-var/artefacts} groups="test artefacts" . "$(dirname "$0")/setup-venv.sh"
hadolint Dockerfile
check-jsonschema -q --builtin-schema vendor.compose-spec docker-compose.yml
check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
check-jsonschema -q --builtin-schema vendor.dependabot .github/dependabot.yml
actionlint .github/workflows/*.yml
zizmor --offline --quiet .github
yamllint --strict .
python -m pytest -q -p no:cacheprovider tests/artefacts
echo "artefacts: in order"
