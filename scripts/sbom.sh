#!/usr/bin/env bash
# Lists what is in an artefact, in CycloneDX's JSON: scripts/sbom.sh ARTEFACT DEST. ARTEFACT is a wheel (it, and what comes with it
# when it is installed here), a zipapp, a Debian package, or a folder of installed modules. The same content makes the same bytes.
set -euo pipefail
if [ $# != 2 ]; then
  echo "usage: scripts/sbom.sh ARTEFACT DEST" >&2
  exit 2
fi
artefact=$(realpath "$1")
out=$(realpath -m "$2")
export ELEMTA_VENV=${ELEMTA_VENV:-var/release}
# shellcheck source=scripts/setup-venv.sh
groups="release" . "$(dirname "$0")/setup-venv.sh"
unset PYTHONPATH SOURCE_DATE_EPOCH # the second one would be told as the time of the list
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
modules=$work/modules
case $artefact in
  *.whl) python -m pip --quiet --disable-pip-version-check install --no-compile --target "$modules" "$artefact" ;;
  *.pyz) python -m zipfile -e "$artefact" "$work/zipapp" && modules=$work/zipapp/site-packages ;;
  *.deb) dpkg-deb -x "$artefact" "$work/package" && modules=$work/package/usr/lib/elemta ;;
  *) modules=$artefact ;;
esac
# where something was built from says nothing about what it is
mkdir "$work/listed"
for facts in "$modules"/*.dist-info; do
  mkdir "$work/listed/${facts##*/}"
  cp "$facts/METADATA" "$work/listed/${facts##*/}/"
done
# an environment with that and nothing else
python -m venv --without-pip "$work/venv"
echo "$work/listed" >"$(echo "$work"/venv/lib/python3.*/site-packages)/artefact.pth"
mkdir -p "$(dirname "$out")"
cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file "$out" "$work/venv"
