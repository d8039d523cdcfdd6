//! A virtual clock: what programs take for the time of day.

use crate::harness::{Place, scratch, succeed, umvu};

#[test]
fn the_time_of_day_is_the_views() {
    for mode in ["", "-S"] {
        let told = succeed(
            Place::Native,
            &format!(
                r#"{} -N {mode} -m vumisc bash -c '
                D=$(mktemp -d); vumount -t vumisctime none $D || exit; ls $D | xargs
                cat $D/base $D/frequency $D/offset
                real=$(python3 -c "import os; print(int(os.stat(\"/proc/self\").st_mtime))")
                echo -$real > $D/offset
                for say in "date +%s" "bash -c \"printf \%\(\%s\)T -1\"" "python3 -c \"import time; print(int(time.time()))\"" "perl -e \"print time\""; do
                    [ "$(eval $say)" -lt 1000 ] && echo early; done
                date -s @1000000000 >/dev/null && date -u +%Y
                python3 -c "
import time
time.clock_settime(time.CLOCK_REALTIME, 5e8); print(int(time.time() / 1e8), time.gmtime().tm_year)
try: time.clock_settime(time.CLOCK_REALTIME, -5)
except OSError as error: print(error.strerror)
a = time.monotonic(); time.sleep(0.1); print(0.09 < time.monotonic() - a < 50)"
                now=$(python3 -c "import time; print(time.time())"); echo 0 > $D/offset; echo $real > $D/base
                echo 1000 > $D/frequency
                python3 -c "import time; a = time.time(); time.sleep(100); print(time.time() - a > 90)"
                vumount -t vumisctime none /mnt; vuumount $D && [ "$(date +%Y)" -gt 2020 ] && echo back; rmdir $D' 2>&1"#,
                umvu()
            ),
        );
        assert_eq!(
            told,
            "base frequency offset\n0.000000000\n1\n0.000000000\nearly\nearly\nearly\nearly\n2001\n\
             5 1985\nInvalid argument\nTrue\nTrue\nvumount: vumisctime: the view has a clock already\nback\n",
            "{mode}"
        );
    }
}

/// Runs a script in a view with a clock that is ten years ahead and a hundred times as fast, in both
/// modes; `$D` is the folder of the clock.
#[track_caller]
fn with_a_fast_clock(script: &str, expected: &str) {
    for mode in ["", "-S"] {
        let folder = scratch("clock");
        let told = succeed(
            Place::Native,
            &format!(
                "cd {}; cat > script <<'END'\nD=$(mktemp -d); vumount -t vumisctime none $D || exit\n\
                 fast() {{ date +%s > $D/base; echo 315360000 > $D/offset; echo 100 > $D/frequency; }}\n\
                 {script}\nvuumount $D; rmdir $D\nEND\n{} -N {mode} -m vumisc bash script 2>&1",
                folder.display(),
                umvu()
            ),
        );
        assert_eq!(told, expected, "{mode}");
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Sixty seconds of the view are less than one of the host: who waits as long as the host says does not
/// pass the upper bounds, which are far away.
const WAITS: &str = r#"
cat > waits.py <<'P'
import os, select, signal, sys, threading, time
def told(name, wait):
    start, day = time.monotonic(), time.time()
    wait()
    passed, days = time.monotonic() - start, time.time() - day
    if not (59 <= passed < 2000 and 59 <= days < 2000): print(name, passed, days)
def poll():
    asked = select.poll(); asked.poll(60000)
def epoll():
    with select.epoll() as asked: asked.poll(60)
def handled(*_): pass
signal.signal(signal.SIGALRM, handled)
def alarm():
    signal.alarm(60); left = signal.alarm(60)
    if not 1 <= left <= 60: print("alarm", left)
    signal.pause()
def timer():
    signal.setitimer(signal.ITIMER_REAL, 60)
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    if not 0 < left <= 60: print("itimer", left)
    signal.pause()
def descriptor(clock, flags):
    import ctypes, struct
    libc = ctypes.CDLL(None)
    at = time.clock_gettime(clock) + 60 if flags else 60
    fd = libc.timerfd_create(clock, 0)
    spec = struct.pack("qqqq", 0, 0, int(at), int(at % 1 * 1e9))
    if libc.timerfd_settime(fd, flags, spec, None): print("timerfd_settime")
    left = ctypes.create_string_buffer(32); libc.timerfd_gettime(fd, left)
    if not 0 < struct.unpack("qqqq", left.raw)[2] <= 60: print("timerfd_gettime", struct.unpack("qqqq", left.raw))
    os.read(fd, 8); os.close(fd)
def absolute(clock):
    import ctypes, struct
    at = time.clock_gettime(clock) + 60
    spec = struct.pack("qq", int(at), int(at % 1 * 1e9))
    if ctypes.CDLL(None).clock_nanosleep(clock, 1, spec, None): print("clock_nanosleep")
told("sleep", lambda: time.sleep(60))
told("select", lambda: select.select([], [], [], 60))
told("poll", poll)
told("epoll", epoll)
told("futex", lambda: threading.Event().wait(60))
told("semaphore", lambda: threading.Semaphore(0).acquire(timeout=60))
told("alarm", alarm)
told("itimer", timer)
told("sigtimedwait", lambda: signal.sigtimedwait([signal.SIGUSR1], 60))
told("timerfd", lambda: descriptor(time.CLOCK_MONOTONIC, 0))
told("timerfd of the day", lambda: descriptor(time.CLOCK_REALTIME, 1))
told("timerfd until", lambda: descriptor(time.CLOCK_BOOTTIME, 1))
told("until a time of day", lambda: absolute(time.CLOCK_REALTIME))
told("until", lambda: absolute(time.CLOCK_MONOTONIC))
def broken():
    import ctypes, struct
    left = ctypes.create_string_buffer(16)
    signal.setitimer(signal.ITIMER_REAL, 60)
    # Without the interpreter's way to go on.
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.nanosleep(struct.pack("qq", 600, 0), left)
    if done != -1 or ctypes.get_errno() != 4: print("nanosleep", done, ctypes.get_errno())
    left = struct.unpack("qq", left.raw)[0]
    if not 1 <= left <= 541: print("left", left)
told("a sleep that a signal ends", broken)
print("done")
P
"#;

#[test]
fn what_waits_follows_the_pace_of_the_clock() {
    with_a_fast_clock(
        &format!(
            "{WAITS} fast; python3 waits.py\n\
             host=$(cat /proc/uptime); sleep 600; timeout 60 sleep 6000; echo $?\n\
             awk -v before=\"${{host%% *}}\" '{{ print ($1 - before < 300) }}' /proc/uptime"
        ),
        "done\n124\n1\n",
    );
}

#[test]
fn programs_that_ran_before_follow_it_too() {
    with_a_fast_clock(
        &format!(
            "{WAITS} sed -i '1i import sys; open(\"ready\", \"w\"); print(sys.stdin.readline().strip(), flush=True)' waits.py\n\
             mkfifo go; python3 waits.py < go & exec 3> go; until [ -e ready ]; do sleep 0.1; done\n\
             fast; true; echo go >&3; exec 3>&-; wait\n\
             printf '%(%Y)T\\n' -1 | awk '{{ print ($1 > 2030) }}'"
        ),
        "go\ndone\n1\n",
    );
}

#[test]
fn files_show_the_time_of_the_clock() {
    with_a_fast_clock(
        r#"touch old; fast
year=$(date +%Y); touch new; [ "$(stat -c %y new | cut -c1-4)" -ge $year ] && echo new
find . -newer old -name new
touch -d 2001-02-03T04:05:06 old; stat -c %y old | cut -c1-19; ls -l --time-style=+%F old | awk '{ print $6 }'
cp -p old copy; find . -newer old -name copy; touch -r old new; stat -c %y new | cut -c1-19
printf 'made: from
	cp from made
' > Makefile; echo 1 > from
make -s; make -q made && echo made; sleep 10; echo 2 > from; make -q || make -s; cat made
python3 -c "
import os, time
with open('held', 'w') as file:
    print(abs(os.fstat(file.fileno()).st_mtime - time.time()) < 2000)
    os.utime(file.fileno(), (5, 7)); found = os.fstat(file.fileno()); print(int(found.st_atime), int(found.st_mtime))""#,
        "new
./new
2001-02-03 04:05:06
2001-02-03
2001-02-03 04:05:06
made
2
True
5 7
",
    );
}

#[test]
fn static_programs_ask_the_clock() {
    with_a_fast_clock(
        r#"cat > program.c <<'C'
#include <stdio.h>
#include <time.h>
int main() {
    struct timespec one = { 60 }, two;
    time_t before = time(0);
    nanosleep(&one, &two);
    clock_gettime(CLOCK_REALTIME, &two);
    long passed = two.tv_sec - before;
    printf("%d %d\n", passed >= 59 && passed < 2000, before > 2000000000);
}
C
gcc -static -o program program.c && fast && ./program"#,
        "1 1
",
    );
}
