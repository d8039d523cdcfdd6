/* Short TCP connections, many at a time: a byte there, a byte back, and the server closes.
     short serve PORT
     short rate HOST PORT CONNECTIONS AT_A_TIME    prints connections per second */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
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

static void serve(struct sockaddr_in a) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&a, sizeof a) || listen(listener, 4096)) fail("listen");
    watch(listener, EPOLLIN);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(queue, events, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            char byte;
            if (fd != listener) {
                if (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) != 1) fail("write");
                close(fd);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) watch(fd, EPOLLIN);
            if (errno != EAGAIN) fail("accept4");
        }
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
    if (argc == 3 && !strcmp(argv[1], "serve")) serve(address("0.0.0.0", argv[2]));
    if (argc != 6) return 2;
    rate(address(argv[2], argv[3]), atol(argv[4]), atol(argv[5]));
    return 0;
}
