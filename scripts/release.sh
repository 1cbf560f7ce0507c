#!/usr/bin/env bash
# Makes everything that a release publishes: scripts/release.sh TAG DEST [deb] [rpm] [archlinux] [apk]; without names all packages.
# The tag must be the version in pyproject.toml. From the same commit and the same dependencies come the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ]; then
  echo "usage: scripts/release.sh vVERSION DEST [deb] [rpm] [archlinux] [apk]" >&2
  exit 2
fi
out=$(realpath -m "$2")
# shellcheck source=scripts/setup-venv.sh
ELEMTA_VENV=${ELEMTA_VENV:-var/release} groups="release" . scripts/setup-venv.sh
python - "${1#v}" <<'CHECK'
import sys, tomllib

version = tomllib.load(open("pyproject.toml", "rb"))["project"]["version"]
if sys.argv[1] != version:
    sys.exit(f"the tag says {sys.argv[1]}, pyproject.toml {version}")
CHECK
shift 2
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} # the commit's time, not that of the build
export SOURCE_DATE_EPOCH
mkdir -p "$out"
scripts/packages.sh "$out" "$@"
scripts/package.sh "$out"
scripts/sbom.sh "$(echo "$out"/elemta-*.whl)" "$out/sbom-whl.cdx.json"
scripts/zipapp.sh "$out/elemta.pyz"
scripts/sbom.sh "$out/elemta.pyz" "$out/sbom-pyz.cdx.json"
(cd "$out" && rm -f SHA256SUMS && sha256sum -- * >SHA256SUMS)
