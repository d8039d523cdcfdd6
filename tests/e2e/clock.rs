//! A virtual clock: what programs take for the time of day.

use crate::harness::{Place, succeed, umvu};

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
                python3 -c "import time; a = time.time(); time.sleep(0.1); print(time.time() - a > 90)"
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
