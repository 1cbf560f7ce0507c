#!/usr/bin/env bash
# Installs Debian packages that are not there yet: scripts/install-debian.sh PACKAGE... As another user than root, or where there is
# no apt, it only says what is missing. Never fails for a package: the tests that need it say that they were skipped.
set -euo pipefail
missing=()
for package in "$@"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "not installed, and only root on Debian can: ${missing[*]}"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
install() { apt-get -o DPkg::Lock::Timeout=400 install -y -qq --no-install-recommends "$@" >/dev/null; }
apt-get -o DPkg::Lock::Timeout=400 update -qq || echo "the lists of packages could not be brought up to date"
if ! install "${missing[@]}"; then
  # One that cannot be had takes no other with it.
  for package in "${missing[@]}"; do
    install "$package" || echo "could not be installed: $package"
  done
fi
