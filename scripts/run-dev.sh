#!/usr/bin/env bash
# Sets up a virtual environment and runs elemta in development mode: SMTP on the first free port of 2525 to 2528,
# no TLS, no accounts; mail is captured and shown, nothing is ever sent. Arguments go to `elemta run --dev`.
set -euo pipefail
# shellcheck source=scripts/setup-venv.sh
groups="" . "$(dirname "$0")/setup-venv.sh"
exec elemta run --dev "$@"
