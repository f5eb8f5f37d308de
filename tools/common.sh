# shellcheck shell=bash
# What the scripts of tools/ share: progress lines with the time, logged commands, readable errors.
# Sourced after `cd` to the root of the sources; not run by itself.

# A script that another one starts continues to count from the first one's start.
export SUTOR_STARTED=${SUTOR_STARTED:-$EPOCHSECONDS}
preset=${SUTOR_PRESET:-dev}
case $preset in
  dev) build_dir=build ;;
  release | asan | ci | cuda) build_dir=build-$preset ;;
  *)
    echo "error: SUTOR_PRESET=$preset is none of dev, release, asan, ci, cuda" >&2
    exit 2
    ;;
esac

# say TEXT...: one progress line with the seconds since the start.
say() { printf '[%4d s] %s\n' $((EPOCHSECONDS - SUTOR_STARTED)) "$*"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# logged NAME COMMAND...: runs a command with its output in a file; shows the end of it on failure.
logged() {
  local log="$PWD/$build_dir/logs/$1.log"
  shift
  mkdir -p "${log%/*}"
  if ! "$@" >"$log" 2>&1 </dev/null; then
    tail -n 30 "$log" >&2
    die "failed: $* (the whole output: $log)"
  fi
}

# as_root COMMAND...: as root or through sudo.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -n true 2>/dev/null || sudo true || die "sudo was refused; run as root: $*"
    sudo "$@"
  else
    die "this needs root, and there is no sudo. As root, run: $*"
  fi
}

# make_venv DIR SPEC...: a venv with exactly these requirement lines ("--no-deps" first = only
# them); nothing happens when it has them already. `venv_part=NAME make_venv ...` adds another list
# to those that are there.
make_venv() {
  local venv=$1 part=${venv_part:-installed}
  local stamp="$venv/$part.txt" title="$venv${venv_part:+ ($part)}"
  shift
  if [[ -f $stamp && $(<"$stamp") == "$*" ]] && "$venv/bin/python" -c '' 2>/dev/null; then
    say "$title: already there"
    return
  fi
  say "$title: downloading wheels ..."
  rm -f "$stamp"
  [[ -x $venv/bin/pip ]] || logged venv python3 -m venv --clear "$venv"
  logged pip "$venv/bin/pip" --disable-pip-version-check install "$@"
  printf '%s' "$*" >"$stamp"
  say "$title: done"
}

# How many compilers at once: one per core, with 1.5 GB of memory each.
compile_jobs() {
  local cores memory_kb
  cores=$(nproc)
  memory_kb=$(awk '/^MemAvailable/ {print $2}' /proc/meminfo)
  local by_memory=$((memory_kb / 1500000))
  ((by_memory < 1)) && by_memory=1
  echo $((cores < by_memory ? cores : by_memory))
}

# tenths: of Ninja's output on stdin, a progress line at every tenth of the way.
tenths() {
  local line last=0
  while IFS= read -r line; do
    [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] || continue
    local tenth=$((10 * BASH_REMATCH[1] / BASH_REMATCH[2]))
    ((tenth > last)) && say "  ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]}"
    last=$tenth
  done
}

# build TARGET...: configures (once, or when CMake sees a change) and builds with progress lines.
build() {
  if [[ ! -f $build_dir/build.ninja ]]; then
    say "configure: preset $preset in $build_dir/"
    logged configure cmake --preset "$preset"
  fi
  local jobs log="$PWD/$build_dir/logs/build.log"
  jobs=$(compile_jobs)
  mkdir -p "${log%/*}"
  say "build: $* ($jobs at a time)"
  local command=(cmake --build "$build_dir" -j "$jobs" --target "$@")
  if ! "${command[@]}" 2>&1 </dev/null | tee "$log" | tenths; then
    grep -n -A 12 -m 3 -E 'error|FAILED' "$log" >&2 || tail -n 30 "$log" >&2
    die "the build failed (the whole output: $log)"
  fi
}
