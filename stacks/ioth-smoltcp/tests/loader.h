/* A loader of stacks by the rules of libioth, for machines that do not have it: the same calls, the
 * same search, the same order of `struct ioth_functions`. */
#ifndef LOADER_H
#define LOADER_H

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct ioth;

/* What the program says of its own license; NULL for nothing. */
void ioth_set_license(const char *license);
/* "STACK" or "STACK,options", and the networks, up to a NULL. */
struct ioth *ioth_newstackl(const char *stack, const char *vnl, ...);
int ioth_delstack(struct ioth *stack);
int ioth_msocket(struct ioth *stack, int domain, int type, int protocol);

int ioth_close(int fd);
int ioth_bind(int fd, const struct sockaddr *addr, socklen_t len);
int ioth_connect(int fd, const struct sockaddr *addr, socklen_t len);
int ioth_listen(int fd, int backlog);
int ioth_accept(int fd, struct sockaddr *addr, socklen_t *len);
int ioth_getsockname(int fd, struct sockaddr *addr, socklen_t *len);
int ioth_getpeername(int fd, struct sockaddr *addr, socklen_t *len);
int ioth_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int ioth_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int ioth_shutdown(int fd, int how);
int ioth_ioctl(int fd, unsigned long request, void *argument);
int ioth_fcntl(int fd, int command, long argument);
ssize_t ioth_read(int fd, void *buf, size_t len);
ssize_t ioth_readv(int fd, const struct iovec *iov, int count);
ssize_t ioth_recv(int fd, void *buf, size_t len, int flags);
ssize_t ioth_recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *from,
                      socklen_t *fromlen);
ssize_t ioth_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t ioth_write(int fd, const void *buf, size_t len);
ssize_t ioth_writev(int fd, const struct iovec *iov, int count);
ssize_t ioth_send(int fd, const void *buf, size_t len, int flags);
ssize_t ioth_sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
                    socklen_t tolen);
ssize_t ioth_sendmsg(int fd, const struct msghdr *msg, int flags);

#endif
