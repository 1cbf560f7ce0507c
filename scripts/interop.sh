#!/usr/bin/env bash
# Real peers: Postfix, Exim, Dovecot, swaks, OpenDKIM, Knot, Unbound, gsasl, testssl. As root it installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-debian.sh postfix swaks dovecot-core dovecot-lmtpd dovecot-imapd libnet-ssleay-perl libio-socket-inet6-perl \
  libsasl2-modules testssl.sh openssl iproute2 procps knot unbound opendkim opendkim-tools gsasl
# Exim's package conflicts with Postfix's, so it is only unpacked; tests/interop/test_exim.py runs it from there
if [ ! -x var/interop/exim/usr/sbin/exim4 ] && command -v apt-get >/dev/null; then
  mkdir -p var/interop/exim
  (cd var/interop && apt-get download exim4-daemon-light && dpkg -x exim4-daemon-light_*.deb exim && rm exim4-daemon-light_*.deb) ||
    echo "Exim could not be fetched: its tests will be skipped"
fi
exec scripts/test.sh -m "interop and not proof and not deploy" "$@"
