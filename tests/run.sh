#!/usr/bin/env bash
# Sets up .venv with the test extra, then runs ruff and pytest; arguments go to pytest.
#   bash tests/run.sh
#   bash tests/run.sh tests/trainer -k pcgrad
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../launch/environment.sh"

prepare_environment tests/requirements.lock
cd "$root"
if [ "$#" = 0 ]; then
  printf 'All tests take from 8 minutes on two fast cores to 25 on slow ones, with CI=true three times that; see tests/README.md.\n'
fi
own=(trainer input_pipelines configs launch tests) # not what somebody keeps beside them
"$python" -m ruff check "${own[@]}"
"$python" -m ruff format --check "${own[@]}"
exec "$python" -m pytest "$@"
