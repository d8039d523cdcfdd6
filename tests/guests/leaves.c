/* Leaves stat(2) of the path in argv[1] from a signal handler, by longjmp: what it was to fill is another
 * variable then, in which nobody else writes. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>

#define TIMES 300

static sigjmp_buf back;
static volatile sig_atomic_t is_inside;

static void leave(int signal) {
    (void)signal;
    if (!is_inside) return;
    is_inside = 0;
    siglongjmp(back, 1);
}

int main(int argc, char **argv) {
    static union {
        struct stat looks;
        unsigned char bytes[sizeof(struct stat)];
    } room;
    volatile int left = 0, spoilt = 0, wrong = 0;
    struct sigaction action = {.sa_handler = leave};
    struct itimerval often = {{0, 700}, {0, 700}};
    if (argc != 2 || sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &often, NULL)) return 2;
    while (left < TIMES) {
        if (sigsetjmp(back, 1) == 0) {
            is_inside = 1;
            if (stat(argv[1], &room.looks) != 0 || !S_ISREG(room.looks.st_mode)) wrong++;
            is_inside = 0;
            continue;
        }
        left++;
        memset(room.bytes, 0xa5, sizeof room.bytes);
        for (volatile int spin = 0; spin < 100000; spin++) {}
        for (size_t at = 0; at < sizeof room.bytes; at++)
            if (room.bytes[at] != 0xa5) {
                spoilt++;
                break;
            }
    }
    printf("%d spoilt, %d wrong\n", spoilt, wrong);
    return 0;
}
