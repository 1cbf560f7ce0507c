#!/usr/bin/env bash
# Packages, units, images and manifests, really run: machines are booted, packages installed, a container engine started. As root.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-debian.sh systemd systemd-container mmdebstrap lintian rpm rpmlint createrepo-c dnf pacman-package-manager binutils \
  zstd docker.io docker-compose podman runc catatonit containernetworking-plugins iptables openssl procps iproute2
exec scripts/test.sh -m deploy "$@"
