# Sourced by the labs: finds or builds umvu, prints what is done, fails at the first error.
set -eu
lab_script=$(readlink -f "$0")
lab_root=$(cd "$(dirname "$lab_script")/../.." && pwd)

say() { printf '\n== %s\n' "$*"; }

# Prints a command as a user would type it, then runs it.
run() { printf '$ %s\n' "$*"; "$@"; }

# Runs a command on a host, that is, on the stack /dev/net/HOST; printed with the host's prompt.
on() {
    printf '%s$ %s\n' "$1" "$(shift && printf '%s' "$*")"
    quietly_on "$@"
}

# The same, without a word.
quietly_on() {
    on_stack=/dev/net/$1
    shift
    vustack "$on_stack" "$@"
}

# Starts a command on a host that runs until the lab ends: serve HOST LOG COMMAND...
# Its process is $served.
serve() {
    serve_host=$1 serve_log=$2
    shift 2
    printf '%s$ %s &\n' "$serve_host" "$*"
    vustack "/dev/net/$serve_host" "$@" >"$serve_log" 2>&1 &
    served=$!
    lab_servers="$lab_servers $served"
}

# Ends a command that serve has started.
end() {
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# Makes a host: host NAME STACK OPTIONS.
host() { run vumount -t vunetioth -o "$3" "$2" "/dev/net/$1"; }

# The outcome: check WHAT COMMAND... says whether the command succeeds, and fails the lab if not.
check() {
    check_what=$1
    shift
    if "$@" >"$work/check" 2>&1; then
        printf 'check: %s: yes\n' "$check_what"
    else
        printf 'check: %s: NO (%s)\n' "$check_what" "$*" >&2
        sed 's/^/    /' "$work/check" >&2
        exit 1
    fi
}

# Turns the outcome of a command around: check "no answer" not ping ...
not() { if "$@"; then return 1; fi; }

# Whether a file has, or comes to have, a line that fits a pattern.
shows() { grep -Eq "$2" "$1"; }

# Waits until a command succeeds, for at most ten seconds.
until_ok() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { echo "gave up waiting for: $*" >&2; return 1; }
        sleep 0.1
    done
}

# The programs that the lab uses, $needs, and the umvu to use: UMVU if set, else a release build of
# this tree.
prepare() {
    # shellcheck disable=SC2086
    "$lab_root/.ci/setup" ip ping $needs
    if [ -z "${UMVU:-}" ]; then
        say "building umvu (only the first time takes long)"
        (cd "$lab_root" && cargo build --release --quiet --package umvu)
        UMVU=${CARGO_TARGET_DIR:-$lab_root/target}/release/umvu
    fi
    export UMVU
}

# A folder of the lab's own, $work, which goes with it, as do the servers.
workplace() {
    work=$(mktemp -d)
    lab_servers=
    trap 'leave' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

leave() {
    # shellcheck disable=SC2086
    [ -z "$lab_servers" ] || kill $lab_servers 2>/dev/null || true
    wait
    rm -rf "$work"
}

# Goes on inside umvu with vunet loaded. Called first, by the labs of one session.
inside_umvu() {
    if [ "${1:-}" != inside ]; then
        prepare
        say "starting umvu with vunet; everything from here on runs inside it, as user $(id -un)"
        exec "$UMVU" -N -m vunet sh "$lab_script" inside
    fi
    workplace
}
