/* What a plugin of libioth is built with: the table of its functions. */
#ifndef IOTH_PLUGIN_H
#define IOTH_PLUGIN_H

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

struct ioth_functions {
    void *(*getstackdata)(void);
    void *(*newstack)(const char *vnlv[], const char *options, struct ioth_functions *f);
    int (*delstack)(void *data);
    __typeof__(socket) *socket;
    __typeof__(close) *close;
    __typeof__(bind) *bind;
    __typeof__(connect) *connect;
    __typeof__(listen) *listen;
    __typeof__(accept) *accept;
    __typeof__(getsockname) *getsockname;
    __typeof__(getpeername) *getpeername;
    __typeof__(setsockopt) *setsockopt;
    __typeof__(getsockopt) *getsockopt;
    __typeof__(shutdown) *shutdown;
    __typeof__(ioctl) *ioctl;
    __typeof__(fcntl) *fcntl;
    __typeof__(read) *read;
    __typeof__(readv) *readv;
    __typeof__(recv) *recv;
    __typeof__(recvfrom) *recvfrom;
    __typeof__(recvmsg) *recvmsg;
    __typeof__(write) *write;
    __typeof__(writev) *writev;
    __typeof__(send) *send;
    __typeof__(sendto) *sendto;
    __typeof__(sendmsg) *sendmsg;
};

#endif
