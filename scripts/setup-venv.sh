#!/usr/bin/env bash
# Sourced by the other scripts: makes ${ELEMTA_VENV:-.venv} with elemta and the dependency groups named in $groups, once
# per content of pyproject.toml. Needs Python 3.11 or newer; as root on Debian it installs what Python lacks for that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${ELEMTA_VENV:-.venv}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

install_debian() { # packages; only where that is possible without asking anybody
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing: $*" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=400 update -qq >&2
    apt-get -o DPkg::Lock::Timeout=400 install -y -qq --no-install-recommends "$@" >&2
    return
  fi
  return 1
}

if ! python=$(find_python); then
  if ! install_debian python3 python3-venv || ! python=$(find_python); then
    echo "elemta needs Python 3.11 or newer: install python3 and python3-venv, or set PYTHON=/path/to/python3" >&2
    exit 1
  fi
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null && ! install_debian python3-venv; then
  echo "this Python cannot make virtual environments: run 'apt-get install python3-venv' as root, or set PYTHON=/path/to/python3" >&2
  exit 1
fi

stamp="$venv/.elemta-$(printf '%s' "${groups:-}" | tr -c '[:lower:]' '-')"
wanted=$(sha256sum pyproject.toml | cut -d' ' -f1)
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ] || ! "$venv/bin/python" -c 'import elemta' 2>/dev/null; then
  echo "setting up $venv (this takes a minute the first time)" >&2
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' >&2
  arguments=(--editable .)
  for group in ${groups:-}; do arguments+=(--group "$group"); done
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${arguments[@]}" >&2
  echo "$wanted" >"$stamp"
fi
PATH=$(cd "$venv" && pwd)/bin:$PATH
export PATH
