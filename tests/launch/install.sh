#!/usr/bin/env bash
# Installs from Debian what the tests of several machines start and stop: Slurm, sshd, networks, firewall rules.
# Tests that miss something are skipped, and say so.
#   bash tests/launch/install.sh
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

missing=()
for program in slurmctld slurmd sbatch munged sshd ssh-keygen nft ip; do
  command -v "$program" >/dev/null || missing+=("$program")
done
[ "${#missing[@]}" -gt 0 ] || exit 0
fail() {
  printf '%s: not installed, and the tests that need them are skipped: %s\n' "${missing[*]}" "$1" >&2
  exit 1
}
command -v apt-get >/dev/null || fail 'this is not Debian'
[ "$(id -u)" = 0 ] || fail 'this is not root'
export DEBIAN_FRONTEND=noninteractive
packages=(slurm-wlm slurmctld slurmd slurm-client munge openssh-server nftables iproute2)
apt-get update -qq >&2 || printf 'warning: apt-get update failed\n' >&2
apt-get install -qq -y --no-install-recommends "${packages[@]}" >&2 || fail 'apt-get install failed (see above)'
