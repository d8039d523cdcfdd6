/* See loader.h. A descriptor belongs to the stack that made it; a call finds the stack by it and
 * tells the plugin which one it is by a thread's variable, behind `getstackdata`. */
#define _GNU_SOURCE
#include "loader.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define SYSTEM_PATH "/usr/local/lib/ioth"
#define DESCRIPTORS 4096
#define NETWORKS 16

struct ioth_functions {
    void *(*getstackdata)(void);
    void *(*newstack)(const char *vnlv[], const char *options, struct ioth_functions *f);
    int (*delstack)(void *data);
    int (*socket)(int, int, int);
    int (*close)(int);
    int (*bind)(int, const struct sockaddr *, socklen_t);
    int (*connect)(int, const struct sockaddr *, socklen_t);
    int (*listen)(int, int);
    int (*accept)(int, struct sockaddr *, socklen_t *);
    int (*getsockname)(int, struct sockaddr *, socklen_t *);
    int (*getpeername)(int, struct sockaddr *, socklen_t *);
    int (*setsockopt)(int, int, int, const void *, socklen_t);
    int (*getsockopt)(int, int, int, void *, socklen_t *);
    int (*shutdown)(int, int);
    int (*ioctl)(int, unsigned long, ...);
    int (*fcntl)(int, int, ...);
    ssize_t (*read)(int, void *, size_t);
    ssize_t (*readv)(int, const struct iovec *, int);
    ssize_t (*recv)(int, void *, size_t, int);
    ssize_t (*recvfrom)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
    ssize_t (*recvmsg)(int, struct msghdr *, int);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    ssize_t (*send)(int, const void *, size_t, int);
    ssize_t (*sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    ssize_t (*sendmsg)(int, const struct msghdr *, int);
};

struct ioth {
    void *handle, *data;
    _Atomic unsigned count;
    struct ioth_functions f;
};

static const char *own_license;
static struct ioth *owners[DESCRIPTORS];
static __thread void *current;

static void *getstackdata(void) { return current; }

void ioth_set_license(const char *license) { own_license = license; }

static int permitted(const char *license) {
    static const char prefix[] = "SPDX-License-Identifier: ";
    if (license == NULL)
        return 1;
    if (strncmp(license, prefix, sizeof(prefix) - 1) == 0)
        license += sizeof(prefix) - 1;
    if (strncasecmp(license, "LGPL-", 5) == 0)
        return 1;
    return own_license != NULL && strcasecmp(license, own_license) == 0;
}

static void *try_load(Lmid_t space, const char *directory, const char *name, const char *end) {
    char *file;
    if (asprintf(&file, "%s/ioth_%s%s", directory, name, end) < 0)
        return NULL;
    void *handle = dlmopen(space, file, RTLD_NOW);
    if (!handle && access(file, F_OK) == 0)
        fprintf(stderr, "%s\n", dlerror());
    free(file);
    return handle;
}

static void *load(const char *name) {
    const char *home = getenv("HOME");
    char *own;
    if (asprintf(&own, "%s/.ioth", home ? home : ".") < 0)
        return NULL;
    const char *places[] = {own, SYSTEM_PATH};
    void *handle = NULL;
    for (int at = 0; at < 2 && !handle; at++) {
        handle = try_load(LM_ID_BASE, places[at], name, "-r.so");
        if (!handle)
            handle = try_load(LM_ID_NEWLM, places[at], name, ".so");
    }
    free(own);
    return handle;
}

static void *symbol(void *handle, const char *name, const char *function) {
    char full[256];
    snprintf(full, sizeof(full), "ioth_%s_%s", name, function);
    return dlsym(handle, full);
}

static struct ioth *fail(struct ioth *stack, int error) {
    if (stack && stack->handle)
        dlclose(stack->handle);
    free(stack);
    errno = error;
    return NULL;
}

struct ioth *ioth_newstackl(const char *stack, const char *vnl, ...) {
    const char *vnlv[NETWORKS + 1] = {vnl};
    va_list rest;
    va_start(rest, vnl);
    for (int at = 1; at < NETWORKS && vnlv[at - 1]; at++)
        vnlv[at] = va_arg(rest, const char *);
    va_end(rest);

    char name[64];
    const char *comma = strchr(stack, ',');
    snprintf(name, sizeof(name), "%.*s", (int)(comma ? comma - stack : (long)strlen(stack)), stack);
    struct ioth *new = calloc(1, sizeof(*new));
    new->handle = load(name);
    if (!new->handle)
        return fail(new, ENOTSUP);
    const char **license = symbol(new->handle, name, "license");
    if (!permitted(license ? *license : NULL))
        return fail(new, EPERM);
    new->f.getstackdata = getstackdata;
#define FIND(F) *(void **)&new->f.F = symbol(new->handle, name, #F);
    FIND(newstack) FIND(delstack) FIND(socket) FIND(close) FIND(bind) FIND(connect) FIND(listen)
    FIND(accept) FIND(getsockname) FIND(getpeername) FIND(setsockopt) FIND(getsockopt)
    FIND(shutdown) FIND(ioctl) FIND(fcntl) FIND(read) FIND(readv) FIND(recv) FIND(recvfrom)
    FIND(recvmsg) FIND(write) FIND(writev) FIND(send) FIND(sendto) FIND(sendmsg)
    if (!new->f.newstack)
        return fail(new, ENOENT);
    new->data = new->f.newstack(vnlv, comma ? comma + 1 : "", &new->f);
    return new->data ? new : fail(new, errno);
}

int ioth_delstack(struct ioth *stack) {
    if (stack->count > 0)
        return errno = EBUSY, -1;
    if (stack->f.delstack && stack->f.delstack(stack->data) != 0)
        return -1;
    dlclose(stack->handle);
    free(stack);
    return 0;
}

static int keep(struct ioth *stack, int fd) {
    if (fd >= 0) {
        stack->count++;
        owners[fd] = stack;
    }
    return fd;
}

int ioth_msocket(struct ioth *stack, int domain, int type, int protocol) {
    current = stack->data;
    return keep(stack, stack->f.socket(domain, type, protocol));
}

static struct ioth *owner(int fd) {
    struct ioth *stack = fd >= 0 && fd < DESCRIPTORS ? owners[fd] : NULL;
    if (stack)
        current = stack->data;
    return stack;
}

#define CALL(FD, F, ...)                                                                          \
    struct ioth *stack = owner(FD);                                                               \
    if (!stack)                                                                                   \
        return errno = EBADF, -1;                                                                 \
    if (!stack->f.F)                                                                              \
        return errno = ENOSYS, -1;                                                                \
    return stack->f.F(FD, __VA_ARGS__)

int ioth_close(int fd) {
    struct ioth *stack = owner(fd);
    if (!stack)
        return errno = EBADF, -1;
    owners[fd] = NULL;
    int result = stack->f.close(fd);
    if (result == 0)
        stack->count--;
    else
        owners[fd] = stack;
    return result;
}

int ioth_accept(int fd, struct sockaddr *addr, socklen_t *len) {
    struct ioth *stack = owner(fd);
    if (!stack)
        return errno = EBADF, -1;
    return keep(stack, stack->f.accept(fd, addr, len));
}

int ioth_bind(int fd, const struct sockaddr *addr, socklen_t len) { CALL(fd, bind, addr, len); }
int ioth_connect(int fd, const struct sockaddr *addr, socklen_t len) {
    CALL(fd, connect, addr, len);
}
int ioth_listen(int fd, int backlog) { CALL(fd, listen, backlog); }
int ioth_getsockname(int fd, struct sockaddr *addr, socklen_t *len) {
    CALL(fd, getsockname, addr, len);
}
int ioth_getpeername(int fd, struct sockaddr *addr, socklen_t *len) {
    CALL(fd, getpeername, addr, len);
}
int ioth_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    CALL(fd, setsockopt, level, name, value, len);
}
int ioth_getsockopt(int fd, int level, int name, void *value, socklen_t *len) {
    CALL(fd, getsockopt, level, name, value, len);
}
int ioth_shutdown(int fd, int how) { CALL(fd, shutdown, how); }
int ioth_ioctl(int fd, unsigned long request, void *argument) {
    CALL(fd, ioctl, request, argument);
}
int ioth_fcntl(int fd, int command, long argument) { CALL(fd, fcntl, command, argument); }
ssize_t ioth_read(int fd, void *buf, size_t len) { CALL(fd, read, buf, len); }
ssize_t ioth_readv(int fd, const struct iovec *iov, int count) { CALL(fd, readv, iov, count); }
ssize_t ioth_recv(int fd, void *buf, size_t len, int flags) { CALL(fd, recv, buf, len, flags); }
ssize_t ioth_recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *from,
                      socklen_t *fromlen) {
    CALL(fd, recvfrom, buf, len, flags, from, fromlen);
}
ssize_t ioth_recvmsg(int fd, struct msghdr *msg, int flags) { CALL(fd, recvmsg, msg, flags); }
ssize_t ioth_write(int fd, const void *buf, size_t len) { CALL(fd, write, buf, len); }
ssize_t ioth_writev(int fd, const struct iovec *iov, int count) { CALL(fd, writev, iov, count); }
ssize_t ioth_send(int fd, const void *buf, size_t len, int flags) {
    CALL(fd, send, buf, len, flags);
}
ssize_t ioth_sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
                    socklen_t tolen) {
    CALL(fd, sendto, buf, len, flags, to, tolen);
}
ssize_t ioth_sendmsg(int fd, const struct msghdr *msg, int flags) { CALL(fd, sendmsg, msg, flags); }
