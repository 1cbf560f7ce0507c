#!/usr/bin/env bash
# The behaviour of every part; no network but loopback, nothing to install but Python. Arguments go to pytest.
set -euo pipefail
exec "$(dirname "$0")/test.sh" -m "not proof and not fuzz and not deploy and not interop" "$@"
