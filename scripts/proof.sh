#!/usr/bin/env bash
# Long proofs: kills, power cuts and failing plugins under load, full disks, large messages. As root it installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-debian.sh postfix swaks libfaketime strace procps iproute2
exec scripts/test.sh -m proof "$@"
