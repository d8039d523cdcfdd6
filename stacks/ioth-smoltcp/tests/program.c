/* A program with two stacks, as one of libioth's would be written: `program VNL`. It says "ok" and
 * a name for each thing that works, and stops at the first that does not. `program VNL open` only has
 * them both. */
#define _GNU_SOURCE
#include "loader.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <unistd.h>

#define CHECK(CONDITION)                                                                          \
    do {                                                                                          \
        if (!(CONDITION)) {                                                                       \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #CONDITION, strerror(errno));   \
            exit(1);                                                                              \
        }                                                                                         \
    } while (0)
/* The call fails, for this reason. */
#define FAILS(CALL, ERROR) CHECK((errno = 0, (CALL) == -1) && errno == (ERROR))

#define LONG_WAIT 20000
#define TRANSFER 5000000

static struct ioth *one, *two;

static struct sockaddr_in address(const char *ip, int port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    CHECK(inet_pton(AF_INET, ip, &addr.sin_addr) == 1);
    return addr;
}

static int joined(int (*call)(int, const struct sockaddr *, socklen_t), int fd, const char *ip,
                  int port) {
    struct sockaddr_in addr = address(ip, port);
    return call(fd, (struct sockaddr *)&addr, sizeof(addr));
}

/* What poll(2) tells of a descriptor, after at most `wait` milliseconds. */
static int ready(int fd, int events, int wait) {
    struct pollfd one = {.fd = fd, .events = events};
    CHECK(poll(&one, 1, wait) >= 0);
    return one.revents;
}

/* Waits until poll(2) tells exactly this. */
static int becomes(int fd, int expected) {
    for (int round = 0; round < 2000; round++) {
        if (ready(fd, POLLIN | POLLOUT | POLLRDHUP, 0) == expected)
            return 1;
        usleep(5000);
    }
    fprintf(stderr, "it shows %#x\n", ready(fd, POLLIN | POLLOUT | POLLRDHUP, 0));
    return 0;
}

static int listener(struct ioth *stack, const char *ip, int port) {
    int fd = ioth_msocket(stack, AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK(joined(ioth_bind, fd, ip, port) == 0);
    CHECK(ioth_listen(fd, 5) == 0);
    return fd;
}

/* A connection of the second stack to the first. */
static void connection(int listening, int port, int ends[2]) {
    ends[0] = ioth_msocket(two, AF_INET, SOCK_STREAM, 0);
    CHECK(ends[0] >= 0);
    CHECK(joined(ioth_connect, ends[0], "10.0.0.1", port) == 0);
    struct sockaddr_in peer, own;
    socklen_t len = sizeof(peer), own_len = sizeof(own);
    ends[1] = ioth_accept(listening, (struct sockaddr *)&peer, &len);
    CHECK(ends[1] >= 0);
    CHECK(ioth_getsockname(ends[0], (struct sockaddr *)&own, &own_len) == 0);
    CHECK(len == sizeof(peer) && own_len == len && memcmp(&peer, &own, 8) == 0);
    CHECK(ioth_getpeername(ends[0], (struct sockaddr *)&peer, &len) == 0);
    CHECK(ntohs(peer.sin_port) == port);
}

static void *echo(void *arg) {
    int fd = ioth_accept((int)(intptr_t)arg, NULL, NULL);
    CHECK(fd >= 0);
    char buffer[10000];
    ssize_t got;
    while ((got = ioth_read(fd, buffer, sizeof(buffer))) > 0)
        CHECK(ioth_write(fd, buffer, got) == got);
    CHECK(got == 0);
    CHECK(ioth_close(fd) == 0);
    return NULL;
}

static void *sends(void *arg) {
    int fd = (int)(intptr_t)arg;
    unsigned char *data = malloc(TRANSFER);
    for (int at = 0; at < TRANSFER; at++)
        data[at] = at * 31 + at / 251;
    struct iovec iov[3] = {{data, 1000}, {data + 1000, 0}, {data + 1000, TRANSFER - 1000}};
    CHECK(ioth_writev(fd, iov, 3) == TRANSFER);
    CHECK(ioth_shutdown(fd, SHUT_WR) == 0);
    free(data);
    return NULL;
}

static void tcp_echo(void) {
    pthread_t server, sender;
    int listening = listener(one, "10.0.0.1", 7);
    CHECK(pthread_create(&server, NULL, echo, (void *)(intptr_t)listening) == 0);
    int fd = ioth_msocket(two, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(joined(ioth_connect, fd, "10.0.0.1", 7) == 0);
    CHECK(pthread_create(&sender, NULL, sends, (void *)(intptr_t)fd) == 0);
    unsigned char buffer[12345];
    int total = 0;
    ssize_t got;
    while ((got = ioth_recv(fd, buffer, sizeof(buffer), total == 0 ? MSG_WAITALL : 0)) > 0) {
        CHECK(total > 0 || got == sizeof(buffer));
        for (int at = 0; at < got; at++, total++)
            CHECK(buffer[at] == (unsigned char)(total * 31 + total / 251));
    }
    CHECK(got == 0 && total == TRANSFER);
    pthread_join(sender, NULL);
    pthread_join(server, NULL);
    CHECK(ioth_close(fd) == 0 && ioth_close(listening) == 0);
}

static void udp(void) {
    int server = ioth_msocket(one, AF_INET, SOCK_DGRAM, 0);
    int client = ioth_msocket(two, AF_INET, SOCK_DGRAM, 0);
    int on = 1;
    CHECK(joined(ioth_bind, server, "10.0.0.1", 53) == 0);
    CHECK(ioth_setsockopt(server, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) == 0);
    CHECK(becomes(server, POLLOUT));
    struct sockaddr_in to = address("10.0.0.1", 53), from;
    struct iovec out[2] = {{"ques", 4}, {"tion", 4}};
    struct msghdr sent = {&to, sizeof(to), out, 2, NULL, 0, 0};
    CHECK(ioth_sendmsg(client, &sent, 0) == 8);
    CHECK(ready(server, POLLIN, LONG_WAIT) == POLLIN);
    char first[3], rest[9], control[100];
    struct iovec in[2] = {{first, sizeof(first)}, {rest, sizeof(rest)}};
    struct msghdr got = {&from, sizeof(from), in, 2, control, sizeof(control), 0};
    CHECK(ioth_recvmsg(server, &got, MSG_PEEK) == 8);
    CHECK(ready(server, POLLIN, 0) == POLLIN);
    got.msg_namelen = sizeof(from);
    got.msg_controllen = sizeof(control);
    CHECK(ioth_recvmsg(server, &got, 0) == 8 && got.msg_namelen == sizeof(from));
    CHECK(memcmp(first, "que", 3) == 0 && memcmp(rest, "stion", 5) == 0);
    struct cmsghdr *info = CMSG_FIRSTHDR(&got);
    CHECK(info && info->cmsg_level == IPPROTO_IP && info->cmsg_type == IP_PKTINFO);
    CHECK(((struct in_pktinfo *)CMSG_DATA(info))->ipi_addr.s_addr == to.sin_addr.s_addr);
    CHECK(becomes(server, POLLOUT));

    CHECK(ioth_sendto(server, "a longer answer", 15, 0, (struct sockaddr *)&from, sizeof(from)) ==
          15);
    socklen_t len = sizeof(from);
    CHECK(ready(client, POLLIN, LONG_WAIT) == POLLIN);
    int count = 0;
    CHECK(ioth_ioctl(client, FIONREAD, &count) == 0 && count == 15);
    CHECK(ioth_recvfrom(client, first, 3, MSG_TRUNC, (struct sockaddr *)&from, &len) == 15);
    CHECK(from.sin_addr.s_addr == to.sin_addr.s_addr && from.sin_port == htons(53));
    FAILS(ioth_recv(client, first, 3, MSG_DONTWAIT), EAGAIN);

    CHECK(joined(ioth_connect, client, "10.0.0.1", 9999) == 0);
    CHECK(ioth_send(client, "x", 1, 0) == 1);
    FAILS(ioth_recv(client, first, 3, 0), ECONNREFUSED);
    FAILS(ioth_sendto(client, "x", 1, 0, (struct sockaddr *)&to, 3), EINVAL);
    CHECK(ioth_close(client) == 0 && ioth_close(server) == 0);
}

static void readiness(void) {
    int ends[2], listening = listener(one, "10.0.0.1", 80);
    CHECK(becomes(listening, 0));
    connection(listening, 80, ends);
    CHECK(becomes(listening, 0));
    CHECK(becomes(ends[0], POLLOUT) && becomes(ends[1], POLLOUT));

    /* Level-triggered and edge-triggered. */
    int queue = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = ends[1]};
    CHECK(epoll_ctl(queue, EPOLL_CTL_ADD, ends[1], &event) == 0);
    CHECK(epoll_wait(queue, &event, 1, 0) == 0);
    char buffer[100000];
    for (int round = 0; round < 3; round++) {
        CHECK(ioth_send(ends[0], "abc", 3, 0) == 3);
        CHECK(epoll_wait(queue, &event, 1, LONG_WAIT) == 1 && event.data.fd == ends[1]);
        CHECK(becomes(ends[1], POLLIN | POLLOUT));
        CHECK(ioth_recv(ends[1], buffer, 1, 0) == 1);
        CHECK(becomes(ends[1], POLLIN | POLLOUT));
        CHECK(ioth_recv(ends[1], buffer, 10, MSG_PEEK) == 2);
        CHECK(ioth_recv(ends[1], buffer, 10, 0) == 2);
        CHECK(becomes(ends[1], POLLOUT));
        FAILS(ioth_recv(ends[1], buffer, 10, MSG_DONTWAIT), EAGAIN);
    }
    close(queue);
    fd_set set;
    struct timeval none = {0, 0};
    FD_ZERO(&set);
    FD_SET(ends[1], &set);
    CHECK(select(ends[1] + 1, &set, NULL, NULL, &none) == 0);

    /* A full buffer is not writable, and is again once it was read. */
    int flags = ioth_fcntl(ends[0], F_GETFL, 0);
    CHECK(ioth_fcntl(ends[0], F_SETFL, flags | O_NONBLOCK) == 0);
    CHECK(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
    long filled = 0;
    do
        for (ssize_t sent; (sent = ioth_write(ends[0], buffer, sizeof(buffer))) > 0;)
            filled += sent;
    while (ready(ends[0], POLLOUT, 200) != 0);
    CHECK(becomes(ends[0], 0));
    /* There may be room that is not worth a wake-up. */
    while (ioth_write(ends[0], buffer, 1) == 1)
        filled++;
    CHECK(errno == EAGAIN);
    for (long left = filled; left > 0;) {
        ssize_t got = ioth_read(ends[1], buffer, sizeof(buffer));
        CHECK(got > 0);
        left -= got;
    }
    CHECK(becomes(ends[0], POLLOUT));

    /* One side ends, then the other. */
    CHECK(ioth_shutdown(ends[0], SHUT_WR) == 0);
    CHECK(becomes(ends[1], POLLIN | POLLOUT | POLLRDHUP));
    CHECK(ioth_read(ends[1], buffer, 10) == 0);
    FAILS(ioth_write(ends[0], "x", 1), EPIPE);
    CHECK(ioth_shutdown(ends[1], SHUT_WR) == 0);
    CHECK(becomes(ends[1], POLLIN | POLLOUT | POLLRDHUP | POLLHUP));
    CHECK(becomes(ends[0], POLLIN | POLLOUT | POLLRDHUP | POLLHUP));
    CHECK(ioth_close(ends[0]) == 0 && ioth_close(ends[1]) == 0);

    /* A reset. */
    connection(listening, 80, ends);
    struct linger reset = {1, 0};
    CHECK(ioth_setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
    CHECK(ioth_close(ends[1]) == 0);
    CHECK(becomes(ends[0], POLLIN | POLLOUT | POLLRDHUP | POLLHUP | POLLERR));
    FAILS(ioth_read(ends[0], buffer, 10), ECONNRESET);
    CHECK(becomes(ends[0], POLLIN | POLLOUT | POLLRDHUP | POLLHUP));
    CHECK(ioth_read(ends[0], buffer, 10) == 0);
    CHECK(ioth_close(ends[0]) == 0 && ioth_close(listening) == 0);
}

static void connecting(void) {
    int error = -1, on = 1;
    socklen_t len = sizeof(error);
    int fd = ioth_msocket(two, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(ioth_fcntl(fd, F_GETFL, 0) & O_NONBLOCK);
    /* Nobody has this address: it takes its time. */
    FAILS(joined(ioth_connect, fd, "10.0.0.77", 80), EINPROGRESS);
    CHECK(ready(fd, POLLOUT, 0) == 0);
    FAILS(joined(ioth_connect, fd, "10.0.0.77", 80), EALREADY);
    CHECK(ioth_close(fd) == 0);

    fd = ioth_msocket(two, AF_INET, SOCK_STREAM, 0);
    CHECK(ioth_ioctl(fd, FIONBIO, &on) == 0);
    int listening = listener(one, "10.0.0.1", 81);
    if (joined(ioth_connect, fd, "10.0.0.1", 81) != 0)
        CHECK(errno == EINPROGRESS);
    CHECK(ready(fd, POLLOUT, LONG_WAIT) == POLLOUT);
    CHECK(ioth_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0);
    FAILS(joined(ioth_connect, fd, "10.0.0.1", 81), EISCONN);
    CHECK(ioth_close(fd) == 0);

    /* Refused, at once and later; the socket can be used again. */
    fd = ioth_msocket(two, AF_INET, SOCK_STREAM, 0);
    FAILS(joined(ioth_connect, fd, "10.0.0.1", 82), ECONNREFUSED);
    CHECK(ioth_fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    if (joined(ioth_connect, fd, "10.0.0.1", 82) != 0 && errno == EINPROGRESS) {
        CHECK(ready(fd, POLLOUT, LONG_WAIT) & POLLOUT);
        CHECK(ioth_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0);
        CHECK(error == ECONNREFUSED);
    } else {
        CHECK(errno == ECONNREFUSED);
    }
    CHECK(ioth_fcntl(fd, F_SETFL, 0) == 0);
    CHECK(joined(ioth_connect, fd, "10.0.0.1", 81) == 0);
    CHECK(becomes(fd, POLLOUT));
    CHECK(ioth_write(fd, "x", 1) == 1);
    CHECK(ioth_close(fd) == 0 && ioth_close(listening) == 0);
}

static void netlink(void) {
    struct {
        struct nlmsghdr header;
        struct ifinfomsg info;
    } request = {{sizeof(request), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {AF_UNSPEC}};
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int fd = ioth_msocket(one, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    CHECK(fd >= 0);
    CHECK(ioth_bind(fd, (struct sockaddr *)&kernel, sizeof(kernel)) == 0);
    CHECK(ioth_sendto(fd, &request, sizeof(request), 0, (struct sockaddr *)&kernel,
                      sizeof(kernel)) == sizeof(request));
    char buffer[32768], names[100] = "";
    for (int done = 0; !done;) {
        CHECK(ready(fd, POLLIN, LONG_WAIT) == POLLIN);
        int length = ioth_recv(fd, buffer, sizeof(buffer), 0);
        CHECK(length > 0);
        struct nlmsghdr *row = (struct nlmsghdr *)buffer;
        for (; NLMSG_OK(row, length); row = NLMSG_NEXT(row, length)) {
            if (row->nlmsg_type == NLMSG_DONE) {
                done = 1;
                break;
            }
            CHECK(row->nlmsg_type == RTM_NEWLINK);
            struct rtattr *field = IFLA_RTA(NLMSG_DATA(row));
            int left = IFLA_PAYLOAD(row);
            for (; RTA_OK(field, left); field = RTA_NEXT(field, left))
                if (field->rta_type == IFLA_IFNAME)
                    strcat(strcat(names, RTA_DATA(field)), " ");
        }
    }
    CHECK(strcmp(names, "lo vde0 ") == 0);
    CHECK(ioth_close(fd) == 0);
}

static void requests(void) {
    int fd = ioth_msocket(two, AF_INET, SOCK_DGRAM, 0), type = 0;
    socklen_t len = sizeof(type);
    struct ifreq request = {.ifr_name = "vde0"};
    CHECK(ioth_ioctl(fd, SIOCGIFADDR, &request) == 0);
    struct sockaddr_in own = address("10.0.0.2", 0);
    CHECK(memcmp(&((struct sockaddr_in *)&request.ifr_addr)->sin_addr, &own.sin_addr, 4) == 0);
    struct ifreq rows[8];
    struct ifconf list = {.ifc_len = sizeof(rows), .ifc_req = rows};
    CHECK(ioth_ioctl(fd, SIOCGIFCONF, &list) == 0 && list.ifc_len == 2 * sizeof(rows[0]));
    CHECK(strcmp(rows[1].ifr_name, "vde0") == 0);
    strcpy(request.ifr_name, "nosuch");
    FAILS(ioth_ioctl(fd, SIOCGIFADDR, &request), ENODEV);
    FAILS(ioth_ioctl(fd, 0x1234, &request), ENOTTY);
    CHECK(ioth_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_DGRAM);
    FAILS(ioth_getsockopt(fd, SOL_SOCKET, 9999, &type, &len), ENOPROTOOPT);
    FAILS(ioth_getsockopt(fd, SOL_SOCKET, SO_TYPE, NULL, &len), EFAULT);
    CHECK(ioth_close(fd) == 0);
}

static void handler(int number) { (void)number; }

static void *closes(void *arg) {
    usleep(50000);
    CHECK(ioth_shutdown((int)(intptr_t)arg, SHUT_RDWR) == 0);
    return NULL;
}

static void errors(void) {
    char byte;
    FAILS(ioth_msocket(one, AF_UNIX, SOCK_STREAM, 0), EAFNOSUPPORT);
    FAILS(ioth_msocket(one, AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
    FAILS(ioth_read(0, &byte, 1), EBADF);
    int fd = ioth_msocket(one, AF_INET, SOCK_STREAM, 0);
    FAILS(ioth_delstack(one), EBUSY);
    FAILS(ioth_recv(fd, &byte, 1, 0), ENOTCONN);
    FAILS(ioth_accept(fd, NULL, NULL), EINVAL);
    FAILS(ioth_shutdown(fd, SHUT_RDWR), ENOTCONN);
    FAILS(ioth_shutdown(fd, 7), EINVAL);
    FAILS(joined(ioth_bind, fd, "10.0.0.2", 80), EADDRNOTAVAIL);
    FAILS(ioth_bind(fd, NULL, 16), EFAULT);
    int listening = listener(one, "0.0.0.0", 80);
    FAILS(joined(ioth_bind, fd, "0.0.0.0", 80), EADDRINUSE);
    CHECK(ioth_close(fd) == 0);

    /* Waits end: by a timeout, by a signal, by another thread. */
    struct timeval timeout = {0, 30000};
    CHECK(ioth_setsockopt(listening, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0);
    FAILS(ioth_accept(listening, NULL, NULL), EAGAIN);
    timeout.tv_usec = 0;
    CHECK(ioth_setsockopt(listening, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0);
    struct sigaction action = {.sa_handler = handler};
    struct itimerval timer = {{0, 20000}, {0, 50000}}, none = {{0, 0}, {0, 0}};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &timer, NULL) == 0);
    FAILS(ioth_accept(listening, NULL, NULL), EINTR);
    CHECK(setitimer(ITIMER_REAL, &none, NULL) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, closes, (void *)(intptr_t)listening) == 0);
    FAILS(ioth_accept(listening, NULL, NULL), EINVAL);
    pthread_join(thread, NULL);
    CHECK(ioth_close(listening) == 0);
}

static void ipv6(void) {
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(7)}, from;
    CHECK(inet_pton(AF_INET6, "fc00::1", &to.sin6_addr) == 1);
    int server = ioth_msocket(one, AF_INET6, SOCK_DGRAM, 0);
    int client = ioth_msocket(two, AF_INET6, SOCK_DGRAM, 0);
    CHECK(ioth_bind(server, (struct sockaddr *)&to, sizeof(to)) == 0);
    CHECK(ioth_connect(client, (struct sockaddr *)&to, sizeof(to)) == 0);
    CHECK(ioth_write(client, "six", 3) == 3);
    char buffer[9];
    socklen_t len = sizeof(from);
    CHECK(ioth_recvfrom(server, buffer, 9, 0, (struct sockaddr *)&from, &len) == 3);
    CHECK(len == sizeof(from) && from.sin6_family == AF_INET6);
    CHECK(ioth_close(client) == 0 && ioth_close(server) == 0);
}

int main(int argc, char *argv[]) {
    CHECK(argc >= 2 && setvbuf(stdout, NULL, _IOLBF, 0) == 0);
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {{"tcp", tcp_echo}, {"udp", udp},         {"readiness", readiness},
                 {"connect", connecting}, {"netlink", netlink}, {"ipv6", ipv6},
                 {"requests", requests}, {"errors", errors}};
    CHECK(ioth_newstackl("nosuch", argv[1], NULL) == NULL && errno == ENOTSUP);
    CHECK(ioth_newstackl("smoltcp,colour=red", argv[1], NULL) == NULL && errno == EINVAL);
    one = ioth_newstackl("smoltcp,ip=10.0.0.1/24,ip=fc00::1/64", argv[1], NULL);
    two = ioth_newstackl("smoltcp,ip=10.0.0.2/24,ip=fc00::2/64", argv[1], NULL);
    CHECK(one && two);
    if (argc > 2) {
        CHECK(ioth_delstack(one) == 0 && ioth_delstack(two) == 0);
        return 0;
    }
    for (unsigned at = 0; at < sizeof(tests) / sizeof(tests[0]); at++) {
        tests[at].run();
        printf("ok %s\n", tests[at].name);
    }
    /* A stack with two interfaces, one of them named. */
    char named[300];
    snprintf(named, sizeof(named), "lan:%s", argv[1]);
    struct ioth *both = ioth_newstackl("smoltcp", named, "null://", NULL);
    CHECK(both);
    int fd = ioth_msocket(both, AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = {.ifr_name = "lan"};
    CHECK(ioth_ioctl(fd, SIOCGIFINDEX, &request) == 0 && request.ifr_ifindex == 2);
    CHECK(ioth_close(fd) == 0);
    CHECK(ioth_delstack(both) == 0 && ioth_delstack(one) == 0 && ioth_delstack(two) == 0);
    printf("ok end\n");
    return 0;
}
