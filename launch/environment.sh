# Sourced by the scripts that need the project's environment: makes .venv and installs the locked dependencies, once.
# Sets $root (the project) and $python (the environment's interpreter).
# shellcheck shell=bash

# With CDPATH set, cd may go elsewhere, and prints where it has gone.
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

# find_python: prints a Python 3.11 to 3.13 from $PYTHON or the PATH.
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
    if [ "$candidate" = "${PYTHON:-}" ]; then
      break # the interpreter that was asked for, or none
    fi
  done
  fail "PYTHON=${PYTHON:-python3} ($("${PYTHON:-python3}" --version 2>&1 | head -n 1)): Python 3.11, 3.12 or 3.13 is needed; set PYTHON to one"
}

# prepare_trainer: the environment for training here, with the CUDA libraries where there is an NVIDIA GPU.
prepare_trainer() {
  if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
    prepare_environment launch/requirements-gpu.lock
  else
    prepare_environment requirements.lock tests/requirements.lock launch/requirements-gpu.lock
  fi
}

# prepare_environment LOCK [LARGER...]: installs what the lock file LOCK (a path within the project) names, unless that
# is installed already, or what one LARGER names, which holds the same versions and more.
prepare_environment() {
  local lock=$1 interpreter
  if is_installed "$@"; then
    return
  fi
  interpreter=$(find_python) || exit 2
  printf 'Setting up %s from %s (once, about a minute)\n' "$root/.venv" "$lock" >&2
  if [ ! -x "$python" ]; then
    "$interpreter" -c 'import venv, ensurepip' 2>/dev/null ||
      fail "PYTHON=$interpreter: has no venv module; install it (on Debian and Ubuntu: apt install python3-venv)"
  fi
  mkdir -p "$root/.venv" || fail "$root/.venv: cannot be made"
  # Jobs that start at once wait for the first one here.
  exec 9>"$root/.venv/lock"
  if command -v flock >/dev/null; then
    flock 9 || printf 'warning: %s: cannot be locked\n' "$root/.venv/lock" >&2
  fi
  if ! is_installed "$@"; then
    [ -x "$python" ] || "$interpreter" -m venv "$root/.venv" || fail "$root/.venv: cannot be made"
    rm -f "$root/.venv/installed"
    "$python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$root/$lock" >&2 ||
      fail "$lock: installing the locked packages failed (see above)"
    (cd "$root" && cksum "$lock") >"$root/.venv/installed"
  fi
  exec 9>&-
}

# is_installed LOCK...: whether .venv was made from one of these.
is_installed() {
  local lock
  for lock in "$@"; do
    if [ -x "$python" ] && [ "$(cat "$root/.venv/installed" 2>/dev/null)" = "$(cd "$root" && cksum "$lock")" ]; then
      return
    fi
  done
  return 1
}
