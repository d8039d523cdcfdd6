/* Interrupts each call that waits on a socket, with and without SA_RESTART; prints what it gives. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int caught;
static int listener, client, server, datagram, full;
static struct sockaddr_in address, datagram_address;
static char buffer[65536];

static void handler(int signal) { caught += signal == SIGALRM; }

static void tick(int milliseconds) {
    struct itimerval timer = {.it_value = {.tv_usec = milliseconds * 1000}};
    setitimer(ITIMER_REAL, &timer, 0);
}

static void catch_alarms(int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGALRM, &action, 0);
}

/* The calls. Each returns what the system call returned. */
static long do_accept(void) { return accept(listener, 0, 0); }
static long do_accept_from(void) {
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    return accept(listener, (struct sockaddr *)&from, &length);
}
static long do_recv(void) { return recv(client, buffer, 1, 0); }
static long do_read(void) { return read(client, buffer, 1); }
static long do_recvfrom(void) {
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    return recvfrom(client, buffer, 1, 0, (struct sockaddr *)&from, &length);
}
static long do_recvmsg(void) {
    struct iovec part = {buffer, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return recvmsg(client, &message, 0);
}
static long do_datagram(void) { return recv(datagram, buffer, 9, 0); }
static long do_datagram_from(void) {
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    return recvfrom(datagram, buffer, 9, 0, (struct sockaddr *)&from, &length);
}
static long do_datagrams(void) {
    struct iovec part = {buffer, 9};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    return recvmmsg(datagram, &message, 1, 0, 0);
}
static long do_send(void) { return send(full, buffer, sizeof buffer, 0); }
static long do_poll(void) {
    struct pollfd one = {client, POLLIN, 0};
    return poll(&one, 1, -1);
}
static long do_ppoll(void) {
    struct pollfd one = {client, POLLIN, 0};
    sigset_t none;
    sigemptyset(&none);
    return ppoll(&one, 1, 0, &none);
}
static long do_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(client, &set);
    return select(client + 1, &set, 0, 0, 0);
}
static long do_epoll(void) {
    struct epoll_event event = {.events = EPOLLIN};
    int fd = epoll_create1(0);
    epoll_ctl(fd, EPOLL_CTL_ADD, client, &event);
    long result = epoll_wait(fd, &event, 1, -1);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}
static long do_timed(void) {
    struct timeval limit = {5, 0}, never = {0, 0};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    long result = recv(client, buffer, 1, 0);
    int error = errno;
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never);
    errno = error;
    return result;
}

/* What ends the wait of each. */
static void by_client(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    connect(fd, (struct sockaddr *)&address, sizeof address);
    usleep(50000);
}
static void by_data(void) {
    if (write(server, "x", 1) != 1) perror("write");
}
static void by_datagram(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    sendto(fd, "datagram", 8, 0, (struct sockaddr *)&datagram_address, sizeof datagram_address);
}
static void by_nothing(void) {}

static struct {
    const char *name;
    long (*call)(void);
    void (*end)(void);
} cases[] = {
    {"accept", do_accept, by_client},
    {"accept with an address", do_accept_from, by_client},
    {"recv", do_recv, by_data},
    {"read", do_read, by_data},
    {"recvfrom", do_recvfrom, by_data},
    {"recvmsg", do_recvmsg, by_data},
    {"recv of datagrams", do_datagram, by_datagram},
    {"recvfrom of datagrams", do_datagram_from, by_datagram},
    {"recvmmsg of datagrams", do_datagrams, by_datagram},
    {"send", do_send, by_nothing},
    {"poll", do_poll, by_data},
    {"ppoll", do_ppoll, by_data},
    {"select", do_select, by_data},
    {"epoll_wait", do_epoll, by_data},
    {"recv with a limit", do_timed, by_data},
};

static void report(const char *name, const char *how, long result) {
    const char *gave = result < 0 ? strerror(errno) : "done";
    printf("%s, %s: %s after %d alarms\n", name, how, gave, caught);
}

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    socklen_t length = sizeof address;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    datagram_address = address;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (struct sockaddr *)&address, sizeof address);
    listen(listener, 8);
    getsockname(listener, (struct sockaddr *)&address, &length);
    client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, (struct sockaddr *)&address, sizeof address)) perror("connect");
    server = accept(listener, 0, 0);
    full = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(full, (struct sockaddr *)&address, sizeof address)) perror("connect");
    int idle = accept(listener, 0, 0);
    for (int quiet = 0; quiet < 10; quiet++) {
        while (send(full, buffer, sizeof buffer, MSG_DONTWAIT) > 0) quiet = 0;
        usleep(20000);
    }
    datagram = socket(AF_INET, SOCK_DGRAM, 0);
    bind(datagram, (struct sockaddr *)&datagram_address, sizeof datagram_address);
    getsockname(datagram, (struct sockaddr *)&datagram_address, &length);
    for (unsigned n = 0; n < sizeof cases / sizeof *cases; n++) {
        catch_alarms(0);
        caught = 0;
        tick(20);
        long partial = cases[n].call();
        /* What a peer's buffers still take is not the question. */
        if (cases[n].end == by_nothing && partial > 0) partial = -1, errno = EINTR;
        report(cases[n].name, "interrupted", partial);
        if (cases[n].end == by_nothing) continue;
        catch_alarms(SA_RESTART);
        caught = 0;
        pid_t helper = fork();
        if (helper == 0) {
            usleep(150000);
            cases[n].end();
            _exit(0);
        }
        tick(20);
        long result = cases[n].call();
        report(cases[n].name, "restarted", result);
        kill(helper, SIGCONT);
        waitpid(helper, 0, 0);
        /* Take what is left of the waking up, which may be under way. */
        usleep(50000);
        while (recv(client, buffer, 9, MSG_DONTWAIT) > 0) {}
        while (recv(datagram, buffer, 9, MSG_DONTWAIT) > 0) {}
    }
    /* A stop and a continuation in the middle are seen by nobody. */
    pid_t sleeper = fork();
    if (sleeper == 0) {
        caught = 0;
        report("recv", "stopped and continued", do_recv());
        report("accept with an address", "stopped and continued", do_accept_from());
        _exit(0);
    }
    for (int n = 0; n < 2; n++) {
        usleep(60000);
        kill(sleeper, SIGSTOP);
        waitpid(sleeper, 0, WUNTRACED);
        kill(sleeper, SIGCONT);
        usleep(30000);
        n == 0 ? by_data() : by_client();
    }
    waitpid(sleeper, 0, 0);
    close(idle);
    return 0;
}
