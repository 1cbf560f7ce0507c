#!/usr/bin/env bash
# Makes a Debian tree in DEST that systemd-nspawn can boot, for the tests in tests/deploy; or with other packages than for that.
# As root; needs mmdebstrap and a mirror.
set -euo pipefail
if [ $# -lt 1 ]; then
  echo "usage: scripts/make-tree.sh DEST [SUITE [PACKAGE,...]]" >&2
  exit 2
fi
destination=$1
suite=${2:-bookworm}
packages=${3:-systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates,procps,iproute2,openssl,rpm}
work=$destination.part
rm -rf "$work"
mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$work"
: >"$work/etc/machine-id" # each boot gets its own
mv "$work" "$destination" # what is there is complete
