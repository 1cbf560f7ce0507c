#!/usr/bin/env bash
# Lays elemta and everything it needs out under DEST as a distribution would: /usr/lib/elemta, /usr/bin/elemta, units, user,
# configuration, manual pages, completion. Packages and the tests of the units are made from it.
#
# Compiled modules hold for one minor version of Python: that of PYTHON (by default /usr/bin/python3), or
# FOR_PYTHON=3.13, with FOR_PLATFORM=musllinux_1_2_x86_64 (space separated, the best first) for another C library or machine.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# != 1 ]; then
  echo "usage: scripts/stage.sh DEST" >&2
  exit 2
fi
destination=$1
python=${PYTHON:-/usr/bin/python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
pip=("$work/venv/bin/python" -m pip --quiet --disable-pip-version-check)
library=$destination/usr/lib/elemta
rm -rf "$library"
"${pip[@]}" install --no-compile --target "$work/native" .
if [ -n "${FOR_PYTHON:-}${FOR_PLATFORM:-}" ]; then
  # What has no wheel is pure: made here, it fits everywhere.
  "${pip[@]}" wheel --wheel-dir "$work/wheels" .
  target=(--only-binary=:all: --find-links "$work/wheels" --implementation cp)
  target+=(--python-version "${FOR_PYTHON:-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')}")
  for platform in ${FOR_PLATFORM:-manylinux_2_28_$(uname -m) manylinux2014_$(uname -m) manylinux_2_17_$(uname -m)}; do
    target+=(--platform "$platform")
  done
  "${pip[@]}" install --no-compile --target "$library" "${target[@]}" "$(echo "$work"/wheels/elemta-*.whl)"
else
  mkdir -p "$(dirname "$library")"
  cp -a "$work/native" "$library"
fi
# of apsw: extensions for its shell, 7 MB that nothing here loads, and its own tests
rm -rf "${library:?}/bin" "${library:?}/share" "${library:?}/apsw/sqlite_extra_binaries" "${library:?}/apsw/tests"
find "$library" \( -name __pycache__ -o -name '*.pyi' \) -prune -exec rm -rf {} +
# these say in which folder it was made
rm -f "$library"/*.dist-info/RECORD "$library"/*.dist-info/direct_url.json
find "$library" -type f -exec chmod 644 {} +
# none of it is a program
find "$library" -name '*.py' -exec sed -i '1{/^#!/d}' {} +

install -d "$destination/usr/bin"
cat >"$destination/usr/bin/elemta" <<'WRAPPER'
#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/usr/lib/elemta")
from elemta.cli import main

main()
WRAPPER
chmod 755 "$destination/usr/bin/elemta"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$work/native
"$work/venv/bin/python" scripts/reference --man "$work/man"
for page in elemta.8 elemta.toml.5; do
  install -d "$destination/usr/share/man/man${page##*.}"
  gzip -9nc "$work/man/$page" >"$destination/usr/share/man/man${page##*.}/$page.gz"
done
complete() { # shell, file
  install -d "$destination/usr/share/$(dirname "$2")"
  _ELEMTA_COMPLETE=$1_source "$work/venv/bin/python" -c \
    'import sys; sys.argv[0] = "elemta"; from elemta.cli import main; main()' >"$destination/usr/share/$2"
}
complete bash bash-completion/completions/elemta
complete zsh zsh/vendor-completions/_elemta
complete fish fish/vendor_completions.d/elemta.fish

# plugins to name in the configuration
install -d "$destination/usr/share/elemta"
cp -R plugins "$destination/usr/share/elemta/plugins"
find "$destination/usr/share/elemta" \( -name __pycache__ -o -name 'test_*' \) -prune -exec rm -rf {} +

install -D -m 644 -t "$destination/usr/lib/systemd/system" systemd/*.service systemd/*.socket
install -D -m 755 -t "$destination/usr/share/elemta" scripts/acme-hook
install -D -m 644 systemd/elemta.sysusers "$destination/usr/lib/sysusers.d/elemta.conf"
# what an administrator has changed stays
[ -e "$destination/etc/elemta/elemta.toml" ] || install -D -m 644 conf/elemta.server.toml "$destination/etc/elemta/elemta.toml"
install -d -m 700 "$destination/etc/elemta/credentials"
