#!/bin/sh
# After the files have gone. Queue and keys stay until a purge, which only Debian has; mail in maildirs is never removed.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
  rm -rf /etc/elemta /var/log/elemta
  if [ -d /var/lib/elemta ]; then
    find /var/lib/elemta -mindepth 1 -maxdepth 1 ! -name mail -exec rm -rf {} +
    rmdir /var/lib/elemta/mail /var/lib/elemta 2>/dev/null ||
      echo "elemta: delivered mail in /var/lib/elemta/mail was left; remove it yourself when nobody needs it" >&2
  fi
fi
