# Shared by scripts/run, scripts/test and scripts/node: makes a virtual environment and installs into it. Sourced, not run.

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# set_up EXTRAS [FOLDER]: EXTRAS is empty or like [test], FOLDER the environment's, .venv where it is left out.
set_up() {
  local python=${PYTHON:-python3} venv=${2:-.venv} wanted
  command -v "$python" >/dev/null || die "Python 3.11 or newer must be installed, got no command $python."
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "Python must be 3.11 or newer, got $("$python" --version); set PYTHON to a newer one."
  # Without pip it was cut off while it was made: venv completes what is there.
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "Making the virtual environment $venv"
    "$python" -m venv "$venv" || die "the virtual environment could not be made; is the package python3-venv installed?"
  fi
  # A stamp of what was installed: a second call installs nothing where nothing has changed.
  wanted=$(cat pyproject.toml constraints.txt | cksum)
  if [ ! -f "$venv/installed$1" ] || [ "$(cat "$venv/installed$1")" != "$wanted" ]; then
    say "Installing the project$1 and what it needs (some minutes, about 6 GB with torch's GPU libraries)"
    "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable ".$1" ||
      die "the installation failed; pip's own message stands above. Is a package index reachable?"
    printf '%s' "$wanted" > "$venv/installed$1"
  fi
}
