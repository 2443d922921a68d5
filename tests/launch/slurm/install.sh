#!/usr/bin/env bash
# Installs Slurm from Debian for tests/launch/test_slurm.py, which starts and stops it; without it that file is skipped.
#   bash tests/launch/slurm/install.sh
set -euo pipefail

if command -v slurmctld slurmd sbatch munged >/dev/null; then
  exit
fi
fail() {
  printf 'Slurm is not installed, and its tests are skipped: %s\n' "$1" >&2
  exit 1
}
command -v apt-get >/dev/null || fail 'this is not Debian'
[ "$(id -u)" = 0 ] || fail 'this is not root'
export DEBIAN_FRONTEND=noninteractive
packages=(slurm-wlm slurmctld slurmd slurm-client munge)
apt-get update -qq >&2 || printf 'warning: apt-get update failed\n' >&2
apt-get install -qq -y --no-install-recommends "${packages[@]}" >&2 || fail 'apt-get install failed (see above)'
