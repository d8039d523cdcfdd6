/* TCP connections, many at a time. A client sends a byte, and the server sends it back.
     connections serve PORT       and closes
     connections echo PORT...     and goes on
     connections rate HOST PORT CONNECTIONS AT_A_TIME
         prints how many short ones are made and closed in a second
     connections exchange HOST PORT CONNECTIONS EXCHANGES COMMAND
         opens them all, runs COMMAND, has 32 bytes under way at a time, each by another one of them,
         runs COMMAND again
     connections hold HOST FIRST_PORT LAST_PORT CONNECTIONS
         opens them all, prints a line, and ends with its standard input */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int queue;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static struct sockaddr_in address(const char *host, const char *port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (inet_pton(AF_INET, host, &a.sin_addr) != 1) fail("inet_pton");
    return a;
}

static void watch(int fd, unsigned events) {
    struct epoll_event e = {.events = events, .data.fd = fd};
    if (epoll_ctl(queue, EPOLL_CTL_ADD, fd, &e)) fail("epoll_ctl");
}

static int listen_at(const char *port) {
    struct sockaddr_in a = address("0.0.0.0", port);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&a, sizeof a) || listen(listener, 4096)) fail("listen");
    watch(listener, EPOLLIN);
    return listener;
}

/* The descriptors up to `last` are listeners. */
static void serve(int last, int closes) {
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(queue, events, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd > last) {
                char bytes[64];
                ssize_t got = read(fd, bytes, sizeof bytes);
                if (got > 0 && write(fd, bytes, got) != got) fail("write");
                if (got <= 0 || closes) close(fd);
                continue;
            }
            int taken;
            while ((taken = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) watch(taken, EPOLLIN);
            if (errno != EAGAIN) fail("accept4");
        }
    }
}

static int opened(struct sockaddr_in a) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (void *)&a, sizeof a)) fail("connect");
    return fd;
}

static void exchange(struct sockaddr_in a, int connections, long exchanges, const char *command) {
    int *all = calloc(connections, sizeof *all);
    for (int i = 0; i < connections; i++) watch(all[i] = opened(a), EPOLLIN);
    long begun = 0, ended = 0, next = 0;
    if (system(command)) fail("system");
    while (ended < exchanges) {
        while (begun < exchanges && begun - ended < 32 && begun - ended < connections) {
            if (write(all[next++ % connections], "x", 1) != 1) fail("write");
            begun++;
        }
        struct epoll_event events[32];
        int count = epoll_wait(queue, events, 32, -1);
        for (int i = 0; i < count; i++) {
            char byte;
            if (read(events[i].data.fd, &byte, 1) != 1) fail("read");
            ended++;
        }
    }
    if (system(command)) fail("system");
}

static void hold(const char *host, int first, int last, int connections) {
    for (int i = 0; i < connections; i++) {
        char port[8];
        snprintf(port, sizeof port, "%d", first + i % (last - first + 1));
        opened(address(host, port));
    }
    puts("held");
    fflush(stdout);
    while (getchar() != EOF) {
    }
}

static void begin(struct sockaddr_in a) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) fail("socket");
    if (connect(fd, (void *)&a, sizeof a) && errno != EINPROGRESS) fail("connect");
    watch(fd, EPOLLOUT);
}

static void rate(struct sockaddr_in a, long connections, long at_a_time) {
    long begun = 0, ended = 0;
    double start = now();
    while (begun < at_a_time) begin(a), begun++;
    while (ended < connections) {
        struct epoll_event events[64];
        int count = epoll_wait(queue, events, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            char bytes[2] = "x";
            if (events[i].events & EPOLLOUT) {
                struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
                if (write(fd, bytes, 1) != 1) fail("write");
                epoll_ctl(queue, EPOLL_CTL_MOD, fd, &e);
                continue;
            }
            ssize_t got = read(fd, bytes, 2);
            if (got < 0 && errno != EAGAIN) fail("read");
            if (got != 0) continue;
            close(fd);
            ended++;
            if (begun < connections) begin(a), begun++;
        }
    }
    printf("%.0f\n", ended / (now() - start));
}

int main(int argc, char **argv) {
    queue = epoll_create1(0);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    const char *mode = argc > 2 ? argv[1] : "";
    if (!strcmp(mode, "serve")) serve(listen_at(argv[2]), 1);
    if (!strcmp(mode, "echo")) {
        int last = 0;
        for (int i = 2; i < argc; i++) last = listen_at(argv[i]);
        serve(last, 0);
    }
    if (argc == 6 && !strcmp(mode, "rate")) {
        rate(address(argv[2], argv[3]), atol(argv[4]), atol(argv[5]));
    } else if (argc == 7 && !strcmp(mode, "exchange")) {
        exchange(address(argv[2], argv[3]), atoi(argv[4]), atol(argv[5]), argv[6]);
    } else if (argc == 6 && !strcmp(mode, "hold")) {
        hold(argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
    } else {
        return 2;
    }
    return 0;
}
