/* libvdestack (Debian: libvdestack-dev) as a plugin of libioth: the kernel's stack in a network
 * namespace of its own, on one VDE network.
 *
 * Everything but the making of sockets is left to the C library, as the plugin vdestack of libioth
 * does. With the option `counted` it keeps a count of its open sockets instead, so that its `close`
 * must be called.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <vdestack.h>

#include "ioth_plugin.h"

const char *ioth_libvdestack_license = "SPDX-License-Identifier: LGPL-2.1-or-later";

static void *(*getstackdata)(void);
static _Atomic int open_sockets;
static int counted;

static int counted_close(int fd) {
    open_sockets--;
    return close(fd);
}

static int counted_accept(int fd, struct sockaddr *addr, socklen_t *length) {
    int new = accept(fd, addr, length);
    if (new >= 0)
        open_sockets++;
    return new;
}

void *ioth_libvdestack_newstack(const char *vnlv[], const char *options,
                                struct ioth_functions *f) {
    const char *vnl = vnlv[0];
    char name[16] = "vde0";
    if (vnl) {
        const char *scheme = strstr(vnl, "://"), *colon = strchr(vnl, ':');
        if (vnlv[1] || (colon && colon < scheme && colon - vnl > 15)) {
            errno = EINVAL;
            return NULL;
        }
        if (colon && colon < scheme) {
            memcpy(name, vnl, colon - vnl);
            name[colon - vnl] = 0;
            vnl = colon + 1;
        }
    }
    counted = strcmp(options, "counted") == 0;
    if (!counted && *options) {
        errno = EINVAL;
        return NULL;
    }
    getstackdata = f->getstackdata;
    f->close = counted ? counted_close : close;
    f->bind = bind;
    f->connect = connect;
    f->listen = listen;
    f->accept = counted ? counted_accept : accept;
    f->getsockname = getsockname;
    f->getpeername = getpeername;
    f->setsockopt = setsockopt;
    f->getsockopt = getsockopt;
    f->shutdown = shutdown;
    f->ioctl = ioctl;
    f->fcntl = fcntl;
    f->read = read;
    f->readv = readv;
    f->recv = recv;
    f->recvfrom = recvfrom;
    f->recvmsg = recvmsg;
    f->write = write;
    f->writev = writev;
    f->send = send;
    f->sendto = sendto;
    f->sendmsg = sendmsg;
    return vde_addstack((char *)vnl, name);
}

int ioth_libvdestack_delstack(void *data) {
    if (open_sockets) {
        errno = EBUSY;
        return -1;
    }
    vde_delstack(data);
    return 0;
}

int ioth_libvdestack_socket(int domain, int type, int protocol) {
    int fd = vde_msocket(getstackdata(), domain, type, protocol);
    if (fd >= 0 && counted)
        open_sockets++;
    return fd;
}
