/* Prints nanoseconds per system call, the least of five rounds: NAME NS, one a line. */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int sock, zero, null, ping[2], pong[2];
static char byte;

static void do_getppid(void) { syscall(SYS_getppid); }
static void do_read(void) { if (read(zero, &byte, 1) != 1) exit(1); }
static void do_write(void) { if (write(null, &byte, 1) != 1) exit(1); }
static void do_poll(void) { struct pollfd p = {zero, POLLIN, 0}; poll(&p, 1, 0); }
static void do_pipe(void) {
    if (write(ping[1], &byte, 1) != 1 || read(pong[0], &byte, 1) != 1) exit(1);
}
static void do_open(void) { close(open("/etc/passwd", O_RDONLY)); }
static void do_stat(void) { struct stat s; stat("/etc/passwd", &s); }
static void do_fork(void) { pid_t p = fork(); if (!p) _exit(0); waitpid(p, 0, 0); }
static void do_getsockname(void) {
    struct sockaddr_in a;
    socklen_t l = sizeof a;
    getsockname(sock, (struct sockaddr *)&a, &l);
}
static void do_setsockopt(void) {
    int one = 1;
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void measure(const char *name, void (*call)(void), int count) {
    double best = 1e18;
    for (int round = 0; round < 5; round++) {
        double begun = now();
        for (int i = 0; i < count; i++) call();
        double each = (now() - begun) / count;
        if (each < best) best = each;
    }
    printf("%s %.0f\n", name, best);
    fflush(stdout);
}

int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 20000;
    sock = socket(AF_INET, SOCK_STREAM, 0);
    zero = open("/dev/zero", O_RDONLY);
    null = open("/dev/null", O_WRONLY);
    if (pipe(ping) || pipe(pong)) return 1;
    pid_t echo = fork();
    if (!echo) {
        close(ping[1]);
        while (read(ping[0], &byte, 1) == 1 && write(pong[1], &byte, 1) == 1) {}
        _exit(0);
    }
    measure("getppid", do_getppid, n);
    measure("read", do_read, n);
    measure("write", do_write, n);
    measure("poll", do_poll, n);
    measure("pipe_ping_pong", do_pipe, n / 4);
    measure("open_close", do_open, n / 4);
    measure("stat", do_stat, n / 4);
    measure("fork_wait", do_fork, n / 100);
    if (sock >= 0) {
        measure("getsockname", do_getsockname, n / 4);
        measure("setsockopt", do_setsockopt, n / 4);
    }
    close(ping[1]);
    waitpid(echo, 0, 0);
    return 0;
}
