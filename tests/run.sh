#!/usr/bin/env bash
# Sets up .venv with the test extra, then runs ruff and pytest; arguments go to pytest.
#   bash tests/run.sh
#   bash tests/run.sh tests/trainer -k pcgrad
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/../launch/environment.sh"

prepare_environment tests/requirements.lock
cd "$root"
"$python" -m ruff check .
"$python" -m ruff format --check .
exec "$python" -m pytest "$@"
