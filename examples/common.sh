# Sourced by the labs: finds or builds umvu, prints what is done, fails at the first error.
set -eu
lab_root=$(cd "$(dirname "$0")/.." && pwd)

say() { printf '\n== %s\n' "$*"; }

# Prints a command as a user would type it, then runs it.
run() { printf '$ %s\n' "$*"; "$@"; }

# The umvu to use: UMVU if set, else a release build of this tree.
prepare() {
    "$lab_root/.ci/setup"
    if [ -z "${UMVU:-}" ]; then
        say "building umvu (only the first time takes long)"
        (cd "$lab_root" && cargo build --release --quiet --package umvu)
        UMVU=${CARGO_TARGET_DIR:-$lab_root/target}/release/umvu
    fi
    export UMVU
}

# Waits until a command succeeds, for at most ten seconds.
until_ok() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { echo "gave up waiting for: $*" >&2; return 1; }
        sleep 0.1
    done
}
