/* LWIPv6 (Debian: liblwipv6-dev) as a plugin of libioth.
 *
 * Networks are what LWIPv6's VDE interfaces take; options: ip=ADDRESS/PREFIX, gw=ADDRESS, for the
 * first interface.
 *
 * The descriptors of LWIPv6 cannot be polled, so each socket is given one that can: an end of a pair
 * that is readable while the other end has put a byte there, and writable unless it was filled.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <lwipv6.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "ioth_plugin.h"

const char *ioth_lwipv6_license = "SPDX-License-Identifier: GPL-2.0-or-later";

/* The most bytes that LWIPv6 is given at once: it waits until it has taken them all. */
#define PIECE 1024
#define SOCKETS 4096

struct sock {
    int lwip, user, ours;
    int stream, netlink, nonblocking;
    pthread_mutex_t lock;
    int raised;     /* a byte is in the user's queue */
    int connecting; /* the user's end is full */
    int error;      /* what connect has met */
    struct sockaddr_storage peer;
    socklen_t peer_length;
};

static struct sock *table[SOCKETS];
static void *(*getstackdata)(void);

static struct sock *find(int fd) {
    struct sock *s = fd >= 0 && fd < SOCKETS ? table[fd] : NULL;
    if (!s)
        errno = EBADF;
    return s;
}

static void raise_in(struct sock *s) {
    pthread_mutex_lock(&s->lock);
    if (!s->raised && send(s->ours, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
        s->raised = 1;
    pthread_mutex_unlock(&s->lock);
}

static void lower_in(struct sock *s) {
    char byte;
    pthread_mutex_lock(&s->lock);
    if (s->raised && recv(s->user, &byte, 1, MSG_DONTWAIT) == 1)
        s->raised = 0;
    pthread_mutex_unlock(&s->lock);
}

static void happened(void *arg) {
    raise_in(arg);
}

/* Asks LWIPv6 to tell when there is something; says whether there is already. */
static int arm(struct sock *s, int how) {
    int found = lwip_event_subscribe((lwipvoidfun)happened, s, s->lwip, how);
    if (found)
        raise_in(s);
    return found;
}

static int ready(struct sock *s, int how) {
    return lwip_event_subscribe(NULL, NULL, s->lwip, how) & how;
}

/* Whether a call that reads may go on; else errno says why not. */
static int may_read(struct sock *s) {
    /* A netlink socket always says that it is readable, and has 0 bytes when it is not. */
    if (!s->nonblocking || s->netlink || ready(s, POLLIN))
        return 1;
    lower_in(s);
    if (arm(s, POLLIN) && ready(s, POLLIN))
        return 1;
    errno = EAGAIN;
    return 0;
}

static int adopt(int lwip, int stream) {
    struct sock *s = calloc(1, sizeof *s);
    int pair[2];
    if (!s || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        free(s);
        lwip_close(lwip);
        return -1;
    }
    if (pair[0] >= SOCKETS) {
        close(pair[0]);
        close(pair[1]);
        free(s);
        lwip_close(lwip);
        errno = EMFILE;
        return -1;
    }
    s->lwip = lwip;
    s->user = pair[0];
    s->ours = pair[1];
    s->stream = stream;
    pthread_mutex_init(&s->lock, NULL);
    table[s->user] = s;
    return s->user;
}

int ioth_lwipv6_socket(int domain, int type, int protocol) {
    if (type == SOCK_DGRAM && protocol != 0 && protocol != IPPROTO_UDP && domain != AF_NETLINK &&
        domain != AF_PACKET) {
        /* LWIPv6 would take it for UDP; ping(8) then asks for a raw socket. */
        errno = EPROTONOSUPPORT;
        return -1;
    }
    int lwip = lwip_msocket(getstackdata(), domain, type, protocol);
    if (lwip < 0)
        return -1;
    int fd = adopt(lwip, type == SOCK_STREAM);
    if (fd < 0)
        return -1;
    table[fd]->netlink = domain == AF_NETLINK;
    if (type != SOCK_STREAM && domain != AF_NETLINK)
        arm(table[fd], POLLIN);
    return fd;
}

int ioth_lwipv6_close(int fd) {
    struct sock *s = find(fd);
    if (!s)
        return -1;
    table[fd] = NULL;
    lwip_event_subscribe(NULL, s, s->lwip, 0);
    lwip_close(s->lwip);
    close(s->user);
    close(s->ours);
    /* A connect or a callback may still look at it. */
    return 0;
}

int ioth_lwipv6_bind(int fd, const struct sockaddr *addr, socklen_t length) {
    struct sock *s = find(fd);
    return s ? lwip_bind(s->lwip, addr, length) : -1;
}

static void *connect_thread(void *arg) {
    struct sock *s = arg;
    char junk[256];
    errno = 0;
    int failed = lwip_connect(s->lwip, (struct sockaddr *)&s->peer, s->peer_length) < 0;
    s->error = failed ? (errno ? errno : ECONNREFUSED) : 0;
    s->connecting = 0;
    if (!failed)
        arm(s, POLLIN);
    while (recv(s->ours, junk, sizeof junk, MSG_DONTWAIT) > 0)
        ;
    return NULL;
}

int ioth_lwipv6_connect(int fd, const struct sockaddr *addr, socklen_t length) {
    struct sock *s = find(fd);
    if (!s)
        return -1;
    if (!s->stream || !s->nonblocking)
        return lwip_connect(s->lwip, addr, length);
    if (s->connecting) {
        errno = EALREADY;
        return -1;
    }
    if (length > sizeof s->peer) {
        errno = EINVAL;
        return -1;
    }
    memcpy(&s->peer, addr, length);
    s->peer_length = length;
    s->connecting = 1;
    char junk[256] = {0};
    while (send(s->user, junk, sizeof junk, MSG_DONTWAIT) > 0)
        ;
    pthread_t thread;
    if (pthread_create(&thread, NULL, connect_thread, s) != 0) {
        s->connecting = 0;
        errno = EAGAIN;
        return -1;
    }
    pthread_detach(thread);
    errno = EINPROGRESS;
    return -1;
}

int ioth_lwipv6_listen(int fd, int backlog) {
    struct sock *s = find(fd);
    if (!s || lwip_listen(s->lwip, backlog) < 0)
        return -1;
    arm(s, POLLIN);
    return 0;
}

int ioth_lwipv6_accept(int fd, struct sockaddr *addr, socklen_t *length) {
    struct sock *s = find(fd);
    if (!s || !may_read(s))
        return -1;
    int lwip = lwip_accept(s->lwip, addr, length);
    if (lwip < 0)
        return -1;
    int new = adopt(lwip, 1);
    if (new >= 0)
        arm(table[new], POLLIN);
    return new;
}

int ioth_lwipv6_getsockname(int fd, struct sockaddr *addr, socklen_t *length) {
    struct sock *s = find(fd);
    return s ? lwip_getsockname(s->lwip, addr, length) : -1;
}

int ioth_lwipv6_getpeername(int fd, struct sockaddr *addr, socklen_t *length) {
    struct sock *s = find(fd);
    if (s && s->connecting) {
        errno = ENOTCONN;
        return -1;
    }
    return s ? lwip_getpeername(s->lwip, addr, length) : -1;
}

int ioth_lwipv6_setsockopt(int fd, int level, int name, const void *value, socklen_t length) {
    struct sock *s = find(fd);
    return s ? lwip_setsockopt(s->lwip, level, name, value, length) : -1;
}

int ioth_lwipv6_getsockopt(int fd, int level, int name, void *value, socklen_t *length) {
    struct sock *s = find(fd);
    if (!s)
        return -1;
    if (level == SOL_SOCKET && name == SO_ERROR && *length >= sizeof(int) && s->stream) {
        *(int *)value = s->error;
        *length = sizeof(int);
        s->error = 0;
        return 0;
    }
    return lwip_getsockopt(s->lwip, level, name, value, length);
}

int ioth_lwipv6_shutdown(int fd, int how) {
    struct sock *s = find(fd);
    return s ? lwip_shutdown(s->lwip, how) : -1;
}

int ioth_lwipv6_ioctl(int fd, unsigned long request, ...) {
    struct sock *s = find(fd);
    va_list ap;
    va_start(ap, request);
    void *argument = va_arg(ap, void *);
    va_end(ap);
    return s ? lwip_ioctl(s->lwip, (long)request, argument) : -1;
}

int ioth_lwipv6_fcntl(int fd, int command, ...) {
    struct sock *s = find(fd);
    if (!s)
        return -1;
    va_list ap;
    va_start(ap, command);
    long argument = va_arg(ap, long);
    va_end(ap);
    switch (command) {
    case F_GETFL:
        return O_RDWR | (s->nonblocking ? O_NONBLOCK : 0);
    case F_SETFL:
        s->nonblocking = (argument & O_NONBLOCK) != 0;
        return 0;
    default:
        return fcntl(s->user, command, argument);
    }
}

/* The end of a dump has a number today, which LWIPv6 does not know of. */
static ssize_t complete(char *data, ssize_t length, size_t room) {
    for (ssize_t at = 0; at + (ssize_t)sizeof(struct nlmsghdr) <= length;) {
        struct nlmsghdr *header = (struct nlmsghdr *)(data + at);
        ssize_t end = at + (ssize_t)header->nlmsg_len;
        if (header->nlmsg_type == NLMSG_DONE && end == length && (size_t)length + 4 <= room &&
            header->nlmsg_len == sizeof *header) {
            memset(data + length, 0, 4);
            header->nlmsg_len += 4;
            return length + 4;
        }
        if (end <= at)
            break;
        at = end;
    }
    return length;
}

ssize_t ioth_lwipv6_recvfrom(int fd, void *data, size_t room, int flags, struct sockaddr *from,
                             socklen_t *length) {
    struct sock *s = find(fd);
    if (!s || !may_read(s))
        return -1;
    ssize_t count = lwip_recvfrom(s->lwip, data, (int)room, flags & ~MSG_DONTWAIT, from, length);
    if (count == 0 && s->netlink) {
        lower_in(s);
        errno = EAGAIN;
        return -1;
    }
    return s->netlink && count > 0 ? complete(data, count, room) : count;
}

ssize_t ioth_lwipv6_sendto(int fd, const void *data, size_t size, int flags,
                           const struct sockaddr *to, socklen_t length) {
    struct sock *s = find(fd);
    if (!s)
        return -1;
    if (s->nonblocking && s->stream) {
        if (!ready(s, POLLOUT)) {
            errno = EAGAIN;
            return -1;
        }
        if (size > PIECE)
            size = PIECE;
    }
    flags &= ~(MSG_DONTWAIT | MSG_NOSIGNAL);
    if (s->netlink) {
        /* The answer is there at once; the count that LWIPv6 returns is 0. */
        if (lwip_send(s->lwip, data, (int)size, flags) < 0)
            return -1;
        raise_in(s);
        return (ssize_t)size;
    }
    return to ? lwip_sendto(s->lwip, data, (int)size, flags, to, length)
              : lwip_send(s->lwip, data, (int)size, flags);
}

static int parse(const char *text, struct ip_addr *addr, struct ip_addr *mask) {
    char copy[64];
    unsigned char octets[4];
    uint32_t words[4];
    snprintf(copy, sizeof copy, "%s", text);
    char *slash = strchr(copy, '/');
    if (slash)
        *slash++ = 0;
    memset(mask, 0, sizeof *mask);
    if (inet_pton(AF_INET, copy, octets) == 1) {
        int prefix = slash ? atoi(slash) : 24;
        uint32_t bits = prefix ? 0xffffffffu << (32 - prefix) : 0;
        IP64_ADDR(addr, octets[0], octets[1], octets[2], octets[3]);
        IP64_MASKADDR(mask, bits >> 24, bits >> 16 & 255, bits >> 8 & 255, bits & 255);
        return 0;
    }
    if (inet_pton(AF_INET6, copy, words) != 1)
        return -1;
    memcpy(addr->addr, words, sizeof words);
    int prefix = slash ? atoi(slash) : 64;
    for (int i = 0; i < prefix; i++)
        ((unsigned char *)mask->addr)[i / 8] |= 0x80 >> i % 8;
    return 0;
}

static int configure(struct stack *stack, struct netif *first, const char *options) {
    char copy[512], *rest = copy, *word;
    snprintf(copy, sizeof copy, "%s", options);
    while ((word = strsep(&rest, ","))) {
        struct ip_addr addr, mask;
        if (!*word)
            continue;
        if (!first || (strncmp(word, "ip=", 3) != 0 && strncmp(word, "gw=", 3) != 0) ||
            parse(word + 3, &addr, &mask) < 0) {
            errno = EINVAL;
            return -1;
        }
        if (word[0] == 'i')
            lwip_add_addr(first, &addr, &mask);
        else
            lwip_add_route(stack, IP_ADDR_ANY, IP_ADDR_ANY, &addr, first, 0);
    }
    return 0;
}

/* LWIPv6 draws its hardware addresses from the time in seconds: two stacks may have the same. */
static int set_mac(struct stack *stack, int number) {
    struct ifreq request = {0};
    int fd = lwip_msocket(stack, AF_INET, SOCK_DGRAM, 0);
    snprintf(request.ifr_name, sizeof request.ifr_name, "vd%d", number);
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    request.ifr_hwaddr.sa_data[0] = 2;
    int done = getrandom(request.ifr_hwaddr.sa_data + 1, 5, 0) == 5
                   ? lwip_ioctl(fd, SIOCSIFHWADDR, &request)
                   : -1;
    lwip_close(fd);
    return done;
}

void *ioth_lwipv6_newstack(const char *vnlv[], const char *options, struct ioth_functions *f) {
    getstackdata = f->getstackdata;
    struct stack *stack = lwip_stack_new();
    struct netif *first = NULL;
    if (!stack)
        return NULL;
    for (int i = 0; vnlv[i]; i++) {
        const char *scheme = strstr(vnlv[i], "://"), *colon = strchr(vnlv[i], ':');
        const char *vnl = colon && colon < scheme ? colon + 1 : vnlv[i];
        struct netif *interface = lwip_vdeif_add(stack, (void *)vnl);
        if (interface && set_mac(stack, i) < 0)
            interface = NULL;
        if (!interface) {
            lwip_stack_free(stack);
            errno = ENODEV;
            return NULL;
        }
        if (!first)
            first = interface;
    }
    if (configure(stack, first, options) < 0) {
        lwip_stack_free(stack);
        errno = EINVAL;
        return NULL;
    }
    if (first)
        lwip_ifup(first);
    return stack;
}

int ioth_lwipv6_delstack(void *data) {
    lwip_stack_free(data);
    return 0;
}
