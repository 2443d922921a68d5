#!/usr/bin/env bash
# Trains on this machine: sets up .venv on the first run, then runs `python -m trainer.main` with the given flags.
#   bash launch/local.sh --strategy=mirrored --combine=weighted
# PYTHON chooses the interpreter. With an NVIDIA GPU the CUDA libraries are installed too.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

prepare_trainer
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m trainer.main "$@"
