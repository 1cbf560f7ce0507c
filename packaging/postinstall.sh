#!/bin/sh
# After the files of elemta are in place: the user, keys to begin with, compiled modules. May run any number of times.
set -e

if command -v systemd-sysusers >/dev/null 2>&1; then
  systemd-sysusers elemta.conf
elif command -v addgroup >/dev/null 2>&1 && ! getent passwd elemta >/dev/null; then
  addgroup -S elemta
  adduser -S -D -H -h /var/lib/elemta -s /sbin/nologin -G elemta -g "elemta mail transfer agent" elemta
fi
[ -d /var/lib/elemta ] || install -d -m 0700 -o elemta -g elemta /var/lib/elemta

secret() { # FILE: root may change it, the server may read it
  chgrp elemta "$1"
  chmod 0640 "$1"
}

# A certificate that nobody vouches for, so that TLS is there from the first minute; put your own in its place.
if [ ! -e /etc/elemta/fullchain.pem ] && [ ! -e /etc/elemta/privkey.pem ]; then
  name=$(hostname -f 2>/dev/null || hostname 2>/dev/null || echo localhost)
  if elemta tls self-signed "$name" --certificate /etc/elemta/fullchain.pem --key /etc/elemta/privkey.pem >/dev/null; then
    secret /etc/elemta/privkey.pem
  else
    echo "elemta: no certificate could be made: set [tls] before you start it" >&2
  fi
fi
# The key that mail of the local domains is signed with; `elemta dkim check` prints its record for DNS.
if [ ! -e /etc/elemta/dkim.pem ]; then
  # one key for all of them, so the name is none
  if elemta dkim generate domain.invalid --selector elemta --output /etc/elemta/dkim.pem >/dev/null; then
    secret /etc/elemta/dkim.pem
  fi
fi
# Accounts: none yet.
if [ ! -e /etc/elemta/users ]; then
  : >/etc/elemta/users
fi
secret /etc/elemta/users

# The server cannot write below /usr, so nobody would keep what it compiles at each start.
if command -v py3compile >/dev/null 2>&1; then
  py3compile -p elemta /usr/lib/elemta || true
else
  python3 -m compileall -q /usr/lib/elemta >/dev/null 2>&1 || true
fi

if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
  # Connections wait in the socket meanwhile; nothing starts that did not run.
  systemctl try-restart elemta.service || echo "elemta: the service did not come back: see 'journalctl -u elemta'" >&2
elif command -v rc-service >/dev/null 2>&1; then
  rc-service --ifstarted elemta restart || true
fi
if [ ! -e /var/lib/elemta/spool ]; then
  echo "elemta: change the lines (1) to (3) in /etc/elemta/elemta.toml, then:"
  if command -v rc-update >/dev/null 2>&1; then
    echo "  elemta check && rc-update add elemta && rc-service elemta start"
  else
    echo "  elemta check && systemctl enable --now elemta"
  fi
fi
