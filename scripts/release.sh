#!/usr/bin/env bash
# Makes everything that a release publishes: scripts/release.sh TAG DEST. The tag must be the version in pyproject.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# != 2 ]; then
  echo "usage: scripts/release.sh vVERSION DEST" >&2
  exit 2
fi
out=$(realpath -m "$2")
mkdir -p "$out"
scripts/packages.sh "$out"
scripts/package.sh "$out"
scripts/zipapp.sh "$out/elemta.pyz"
# shellcheck source=scripts/setup-venv.sh
ELEMTA_VENV=${ELEMTA_VENV:-var/release} groups="release" . scripts/setup-venv.sh
python - "${1#v}" <<'CHECK'
import sys, tomllib

version = tomllib.load(open("pyproject.toml", "rb"))["project"]["version"]
if sys.argv[1] != version:
    sys.exit(f"the tag says {sys.argv[1]}, pyproject.toml {version}")
CHECK
# what is in it: of an environment with the wheel and nothing else
python -m venv --without-pip "$out/.sbom"
python -m pip --quiet --disable-pip-version-check --python "$out/.sbom/bin/python" install "$out"/elemta-*.whl
cyclonedx-py environment --output-file "$out/sbom.cdx.json" "$out/.sbom/bin/python"
rm -rf "$out/.sbom"
(cd "$out" && sha256sum -- * >SHA256SUMS)
