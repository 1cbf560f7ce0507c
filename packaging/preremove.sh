#!/bin/sh
# Before the files go: stop the server, but not when another version takes their place.
set -e
case "$1" in
  upgrade | failed-upgrade | 1) upgrade=yes ;; # Debian's word, RPM's number of versions that stay
  *) upgrade=no ;;
esac
if [ $upgrade = no ]; then
  if [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now elemta.socket elemta-submission.socket elemta.service || true
  elif command -v systemctl >/dev/null 2>&1; then
    systemctl --no-reload disable elemta.socket elemta-submission.socket elemta.service >/dev/null 2>&1 || true
  elif command -v rc-service >/dev/null 2>&1; then
    rc-service --ifstarted elemta stop || true
    rc-update -q del elemta || true
  fi
fi
# What was compiled belongs to this version, also where the next one has the same files.
if [ -d /usr/lib/elemta ]; then
  find /usr/lib/elemta -name __pycache__ -prune -exec rm -rf {} +
fi
