/* A plugin of libioth for the corners of its interface. Its sockets are the kernel's, by functions
 * of its own.
 *
 * Compile with -DSTACK=NAME, and with -DLICENSE='"..."' for a license or -DNO_NEWSTACK for none of
 * that function. It makes one stack at a time: what is loaded twice is two plugins.
 *
 * Options: io=read|readv|recv|recvfrom|recvmsg chooses the one pair of functions for data there is;
 * fail=N has newstack fail with that errno; crash, hang, busy and late are ways to misbehave.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ioth_plugin.h"

#define PASTE(a, b, c) a##b##c
#define NAME_OF(stack, name) PASTE(ioth_, stack, _##name)
#define EXPORT(name) NAME_OF(STACK, name)

#ifdef LICENSE
const char *EXPORT(license) = LICENSE;
#endif

static void *(*getstackdata)(void);
static int in_use, open_sockets, busy;

int EXPORT(socket)(int domain, int type, int protocol) {
    if (getstackdata() != &in_use) {
        errno = EFAULT;
        return -1;
    }
    int fd = socket(domain, type, protocol);
    if (fd >= 0)
        open_sockets++;
    return fd;
}

int EXPORT(close)(int fd) {
    open_sockets--;
    return close(fd);
}

int EXPORT(bind)(int fd, const struct sockaddr *addr, socklen_t length) {
    return bind(fd, addr, length);
}

int EXPORT(connect)(int fd, const struct sockaddr *addr, socklen_t length) {
    return connect(fd, addr, length);
}

int EXPORT(listen)(int fd, int backlog) {
    return listen(fd, backlog);
}

int EXPORT(accept)(int fd, struct sockaddr *addr, socklen_t *length) {
    int new = accept(fd, addr, length);
    if (new >= 0)
        open_sockets++;
    return new;
}

int EXPORT(getsockname)(int fd, struct sockaddr *addr, socklen_t *length) {
    return getsockname(fd, addr, length);
}

int EXPORT(shutdown)(int fd, int how) {
    return shutdown(fd, how);
}

/* No getpeername, no getsockopt, no setsockopt; no fcntl, but FIONBIO. */
int EXPORT(ioctl)(int fd, unsigned long request, ...) {
    va_list ap;
    va_start(ap, request);
    void *argument = va_arg(ap, void *);
    va_end(ap);
    return ioctl(fd, request, argument);
}

#define CHOOSE(in, out)                                                                            \
    if (strcmp(io, #in) == 0) {                                                                    \
        f->in = in;                                                                                \
        f->out = out;                                                                              \
    }

__attribute__((unused)) static void choose(struct ioth_functions *f, const char *io) {
    CHOOSE(read, write)
    CHOOSE(readv, writev)
    CHOOSE(recv, send)
    CHOOSE(recvfrom, sendto)
    CHOOSE(recvmsg, sendmsg)
}

__attribute__((unused)) static void *crash_late(void *arg) {
    (void)arg;
    usleep(200000);
    raise(SIGSEGV);
    return NULL;
}

#ifndef NO_NEWSTACK
void *EXPORT(newstack)(const char *vnlv[], const char *options, struct ioth_functions *f) {
    pthread_t thread;
    if (in_use) {
        errno = EBUSY;
        return NULL;
    }
    if (vnlv[0]) {
        errno = ENXIO;
        return NULL;
    }
    if (strncmp(options, "fail=", 5) == 0) {
        errno = atoi(options + 5);
        return NULL;
    }
    if (strcmp(options, "crash") == 0)
        *(volatile int *)0 = 1;
    if (strcmp(options, "hang") == 0)
        for (;;)
            pause();
    if (strcmp(options, "late") == 0)
        pthread_create(&thread, NULL, crash_late, NULL);
    busy = strcmp(options, "busy") == 0;
    getstackdata = f->getstackdata;
    choose(f, strncmp(options, "io=", 3) == 0 ? options + 3 : "recvmsg");
    in_use = 1;
    return &in_use;
}
#endif

int EXPORT(delstack)(void *data) {
    if (data != &in_use || open_sockets || busy) {
        errno = EBUSY;
        return -1;
    }
    in_use = 0;
    return 0;
}
