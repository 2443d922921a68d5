#!/usr/bin/env bash
# Trains on this machine: sets up .venv on the first run, then runs `python -m trainer.main` with the given flags.
#   bash launch/local.sh --strategy=mirrored --combine=weighted
# PYTHON chooses the interpreter. With an NVIDIA GPU the CUDA libraries are installed too.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  prepare_environment launch/requirements-gpu.lock
else
  prepare_environment requirements.lock tests/requirements.lock
fi
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m trainer.main "$@"
