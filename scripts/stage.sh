#!/usr/bin/env bash
# Lays elemta and everything it needs out under DEST as a distribution would: /usr/lib/elemta, /usr/bin/elemta, units, user,
# configuration. Packages and the tests of the units are made from it. It holds for the Python it is made with: PYTHON, by
# default /usr/bin/python3.
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
library=$destination/usr/lib/elemta
rm -rf "$library"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --target "$library" .
rm -rf "${library:?}/bin" "${library:?}/share"
find "$library" \( -name __pycache__ -o -name '*.pyi' \) -prune -exec rm -rf {} +
find "$library" -type f -exec chmod 644 {} +

install -d "$destination/usr/bin"
cat >"$destination/usr/bin/elemta" <<'WRAPPER'
#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/usr/lib/elemta")
from elemta.cli import main

main()
WRAPPER
chmod 755 "$destination/usr/bin/elemta"
PYTHONPATH=$library "$work/venv/bin/python" scripts/reference --man "$work/man"
for page in elemta.8 elemta.toml.5; do
  install -d "$destination/usr/share/man/man${page##*.}"
  gzip -9nc "$work/man/$page" >"$destination/usr/share/man/man${page##*.}/$page.gz"
done
complete() { # shell, file
  install -d "$destination/usr/share/$(dirname "$2")"
  PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$library _ELEMTA_COMPLETE=$1_source "$work/venv/bin/python" -c \
    'import sys; sys.argv[0] = "elemta"; from elemta.cli import main; main()' >"$destination/usr/share/$2"
}
complete bash bash-completion/completions/elemta
complete zsh zsh/vendor-completions/_elemta
complete fish fish/vendor_completions.d/elemta.fish
find "$library" -name __pycache__ -prune -exec rm -rf {} +

install -D -m 644 -t "$destination/usr/lib/systemd/system" systemd/*.service systemd/*.socket
install -D -m 644 systemd/elemta.sysusers "$destination/usr/lib/sysusers.d/elemta.conf"
# what an administrator has changed stays
[ -e "$destination/etc/elemta/elemta.toml" ] || install -D -m 644 conf/elemta.server.toml "$destination/etc/elemta/elemta.toml"
install -d -m 700 "$destination/etc/elemta/credentials"
