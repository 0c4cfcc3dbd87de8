#!/usr/bin/env bash
# Builds .venv from requirements.lock, or brings it up to date. `make` calls this before every command that needs it;
# when nothing has changed it takes a tenth of a second. PYTHON names the interpreter to build from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

root=$(pwd -P)
venv=$root/.venv
stamp=$venv/setup.stamp # what the finished .venv was built from; absent while it is being changed
log=$venv/setup.log     # every word of pip
offline='Failed to establish a new connection|NameResolutionError|Max retries exceeded|ProxyError|SSLError|TimeoutError'
minimum=$(sed -n 's/^requires-python = ">=\([0-9.]*\)".*/\1/p' pyproject.toml)

say() { printf 'langevin: %s\n' "$*" >&2; }

fail() {
    say "$@"
    exit 1
}

# Sets python, version (in full) and where (its path).
find_python() {
    local mend="install it (Debian: apt-get install python3 python3-venv), or name another one: make PYTHON=python$minimum"
    python=${PYTHON:-python3}
    # an activated .venv must not be rebuilt from the python inside it
    PATH=:$PATH:
    PATH=${PATH//":$venv/bin:"/:}
    PATH=${PATH#:} PATH=${PATH%:}
    command -v "$python" >/dev/null || fail "there is no $python here, and Python $minimum or newer is needed: $mend"
    read -r version where < <("$python" -c 'import platform, sys; print(platform.python_version(), sys.executable)') ||
        fail "$python does not start, and Python $minimum or newer is needed: $mend"
    "$python" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$minimum'.split('.'))))" ||
        fail "$python is Python $version, and $minimum or newer is needed: $mend"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot make virtual environments: apt-get install python3-venv (or python${version%.*}-venv)"
}

# True where .venv has a pip that starts, lies here (not where .venv was copied from) and runs PYTHON's minor version.
usable() {
    local place
    place=$("$venv/bin/pip" --version 2>/dev/null) || return 1
    place=$(sed 's/^pip [^ ]* from \(.*\) (python .*/\1/' <<<"$place")
    [[ $place -ef $venv/lib/python${version%.*}/site-packages/pip ]]
}

rebuild() {
    find "$venv/" -mindepth 1 -maxdepth 1 ! -name setup.lock -exec rm -rf {} +
    "$python" -m venv "$venv" >"$log" 2>&1 || explain
}

# What a killed pip left: a package whose RECORD, written last, does not name its INSTALLER, and packages put aside.
clear_half_installed() {
    local packages info
    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    rm -rf "$packages"/~*
    for info in "$packages"/*.dist-info; do
        grep -q '/INSTALLER,' "$info/RECORD" 2>/dev/null || rm -rf "$info"
    done
}

install() {
    "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --progress-bar off "$@" >>"$log" 2>&1 || explain
}

# Ends with the errors of the log and what to do about them.
explain() {
    grep -E '^ *(ERROR|Error|error):' "$log" | tail -n 6 >&2 || tail -n 12 "$log" >&2
    # a retry that succeeded is a WARNING, and not the cause
    if grep -v WARNING "$log" | tail -n 20 | grep -qE "from versions: none|ConnectionPool|Connection (broken|reset)|$offline"; then
        fail "pip could not fetch the packages. Is there a network? Behind a proxy set https_proxy; for a mirror of your own" \
            "set pip's configuration. Then run the same command again: it goes on from here."
    fi
    fail "the installation failed; .venv/setup.log has all of it. Mend the cause and run the same command again."
}

find_python
unset PYTHONPATH PYTHONHOME # packages from elsewhere would count as installed here
export PIP_USER=0           # a user's default of --user has no meaning inside .venv

mkdir -p "$venv"
exec 9>"$venv/setup.lock" # children inherit it: a pip that outlives a killed make still keeps the next one out
flock --nonblock 9 || {
    say "another make is setting up .venv; waiting for it"
    flock 9
}

wanted=$(
    printf '%s\n' "$venv" "$version $where"
    sha256sum requirements.lock pyproject.toml infra/setup/environment.sh
)
if [[ -x $venv/bin/python && -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    exit 0
fi

SECONDS=0
rm -f "$stamp"
if usable; then
    say "bringing .venv up to date with requirements.lock; seconds to minutes (watch: .venv/setup.log)"
    : >"$log"
else
    say "building .venv from requirements.lock with Python $version; 2 to 4 minutes on a fast line (watch: .venv/setup.log)"
    rebuild
fi
clear_half_installed
install --no-deps -r requirements.lock
install --no-deps --no-build-isolation --editable .
# The lock names what every machine needs. Some builds of torch ask for more (CUDA libraries): only then is pip to resolve.
"$venv/bin/python" -m pip check >>"$log" 2>&1 || install -r requirements.lock
printf '%s\n' "$wanted" >"$stamp.new"
mv "$stamp.new" "$stamp"
say ".venv is ready, after $SECONDS s"
