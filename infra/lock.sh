#!/bin/sh
# Writes requirements.lock (core, s3, server), requirements-dev.lock (only what `dev`, `databases` and `excel` add to it),
# infra/torch-cuda.txt (torch for CUDA and only what it adds) and infra/fuzz.txt (the fuzzer). infra/torch.txt is
# the one lock kept by hand.
# Universal for Python 3.11-3.13 on Linux and macOS, with hashes, without torch, and without a word about
# the index used: whoever installs brings their own. Existing pins stay unless UPGRADE=1.
set -eu
cd "$(dirname "$0")/.."
# A marker that is never true takes torch, and with it every nvidia-* and triton package, out of the resolution.
without_torch=$(mktemp)
trap 'rm -f "$without_torch" "$without_torch.cuda"' EXIT
echo "torch ; sys_platform == 'never'" >"$without_torch"
uv=${VENV:-.venv}/bin/uv

compile() {
    "$uv" pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --override "$without_torch" \
        --no-emit-index-url --no-emit-find-links --no-annotate --no-header ${UPGRADE:+--upgrade} \
        --extra s3 --extra server --group torch-requirements --group setup "$@" >/dev/null
}

compile -o requirements.lock
# Word splitting is wanted: one option and one name per locked package.
# shellcheck disable=SC2046
compile --extra dev --extra databases --extra excel -c requirements.lock -o requirements-dev.lock \
    $(sed -n 's,^\([A-Za-z0-9._-]*\)==.*,--no-emit-package \1,p' requirements.lock)

# `===`: a CPU build with the same number (2.13.0+cpu) is another file. uv reads metadata; no wheel is fetched.
torch=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' infra/torch.txt)
{
    echo "# torch for DEVICE=cuda and NVIDIA's packages (CUDA 13) on Linux, with hashes; infra/lock.sh writes it."
    # shellcheck disable=SC2046
    echo "$torch" | "$uv" pip compile - --quiet --universal --python-version 3.11 --generate-hashes -c requirements.lock \
        --no-emit-index-url --no-emit-find-links --no-annotate --no-header ${UPGRADE:+--upgrade} \
        $(sed -n 's,^\([A-Za-z0-9._-]*\)==.*,--no-emit-package \1,p' requirements.lock) | sed 's/^torch==/torch===/'
} >"$without_torch.cuda"
grep -q '^torch===' "$without_torch.cuda" && mv "$without_torch.cuda" infra/torch-cuda.txt

# The fuzzer has wheels for Linux on x86-64 alone and is large, so only `make fuzz` installs it.
fuzzer="atheris==3.0.0 ; sys_platform == 'linux' and platform_machine == 'x86_64'"
{
    echo "# The coverage-guided fuzzer of tests/fuzz (Apache-2.0), with hashes; infra/lock.sh writes it."
    echo "$fuzzer" | "$uv" pip compile - --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate --no-header
} >infra/fuzz.txt

if grep -nE '://|^-|(^| )(/|\./)' requirements.lock requirements-dev.lock infra/torch-cuda.txt infra/fuzz.txt | grep -v -e '--hash='; then
    echo "the lock names an address, an option or a path (above); it must hold names, versions and hashes only" >&2
    exit 1
fi
echo "requirements.lock: $(grep -c == requirements.lock) packages; requirements-dev.lock adds $(grep -c == requirements-dev.lock)"
