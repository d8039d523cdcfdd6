/* Gives a program the netlink sockets, interface ioctls and /proc/net of a test server.
 *
 * LD_PRELOADed. A netlink socket becomes a SOCK_SEQPACKET connection to the server at $NETEMU. The
 * first byte of what is sent tells what it is: 'P' protocol, 'B' bind, 'O' option, 'D' data; what
 * is received are datagrams of the "kernel". An interface ioctl is a connection of its own: 'I',
 * request, argument; the answer is the result and the argument. /proc/net, /proc/sys/net and
 * /sys/class/net are read from below $NETEMU_ROOT. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <net/if.h>
#include <net/route.h>
#include <net/if_arp.h>

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

static uint32_t ports[1024];
static char is_ours[1024];

static int ours(int fd) { return fd >= 0 && fd < 1024 && is_ours[fd]; }

static int dial(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = REAL(socket)(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(un.sun_path, sizeof un.sun_path, "%s", getenv("NETEMU"));
	if (REAL(connect)(fd, (struct sockaddr *)&un, sizeof un) < 0) {
		perror("shim: connect");
		_exit(99);
	}
	return fd;
}

int socket(int domain, int type, int protocol)
{
	if (domain != AF_NETLINK)
		return REAL(socket)(domain, type, protocol);
	int fd = dial();
	char hello[5] = { 'P' };
	int32_t answer[2];
	memcpy(hello + 1, &protocol, 4);
	REAL(send)(fd, hello, sizeof hello, 0);
	if (REAL(recv)(fd, answer, sizeof answer, 0) != sizeof answer || answer[0] != 0) {
		errno = -answer[0];
		close(fd);
		return -1;
	}
	is_ours[fd] = 1;
	ports[fd] = answer[1];
	return fd;
}

int close(int fd)
{
	if (ours(fd))
		is_ours[fd] = 0;
	return REAL(close)(fd);
}

int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	if (!ours(fd))
		return REAL(bind)(fd, addr, len);
	const struct sockaddr_nl *nl = (const void *)addr;
	char message[5] = { 'B' };
	memcpy(message + 1, &nl->nl_groups, 4);
	REAL(send)(fd, message, sizeof message, 0);
	return 0;
}

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return ours(fd) ? 0 : REAL(connect)(fd, addr, len);
}

int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	if (!ours(fd))
		return REAL(getsockname)(fd, addr, len);
	struct sockaddr_nl nl = { .nl_family = AF_NETLINK, .nl_pid = ports[fd] };
	memcpy(addr, &nl, *len < sizeof nl ? *len : sizeof nl);
	*len = sizeof nl;
	return 0;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	if (!ours(fd) || level != SOL_NETLINK)
		return ours(fd) ? 0 : REAL(setsockopt)(fd, level, name, value, len);
	char message[64] = { 'O' };
	memcpy(message + 1, &name, 4);
	memcpy(message + 5, value, len < 32 ? len : 32);
	REAL(send)(fd, message, 5 + len, 0);
	return 0;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	if (!ours(fd))
		return REAL(sendmsg)(fd, msg, flags);
	static char buffer[1 << 20];
	size_t size = 1;
	buffer[0] = 'D';
	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		memcpy(buffer + size, msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len);
		size += msg->msg_iov[i].iov_len;
	}
	ssize_t sent = REAL(send)(fd, buffer, size, 0);
	return sent < 0 ? sent : sent - 1;
}

ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to, socklen_t tolen)
{
	if (!ours(fd))
		return REAL(sendto)(fd, data, len, flags, to, tolen);
	struct iovec iov = { (void *)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	return sendmsg(fd, &msg, flags);
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
	return ours(fd) ? sendto(fd, data, len, flags, NULL, 0) : REAL(send)(fd, data, len, flags);
}

ssize_t write(int fd, const void *data, size_t len)
{
	return ours(fd) ? send(fd, data, len, 0) : REAL(write)(fd, data, len);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	if (!ours(fd))
		return REAL(recvmsg)(fd, msg, flags);
	void *name = msg->msg_name;
	msg->msg_name = NULL;
	ssize_t got = REAL(recvmsg)(fd, msg, flags);
	msg->msg_name = name;
	msg->msg_controllen = 0;
	if (name) {
		memset(name, 0, msg->msg_namelen);
		((struct sockaddr_nl *)name)->nl_family = AF_NETLINK;
		msg->msg_namelen = sizeof(struct sockaddr_nl);
	}
	return got;
}

ssize_t recvfrom(int fd, void *data, size_t len, int flags, struct sockaddr *from, socklen_t *fromlen)
{
	if (!ours(fd))
		return REAL(recvfrom)(fd, data, len, flags, from, fromlen);
	struct sockaddr_nl nl;
	struct iovec iov = { data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_name = &nl, .msg_namelen = sizeof nl };
	ssize_t got = recvmsg(fd, &msg, flags);
	if (from && fromlen) {
		memcpy(from, &nl, *fromlen < sizeof nl ? *fromlen : sizeof nl);
		*fromlen = sizeof nl;
	}
	return got;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	char *argument = va_arg(args, char *);
	va_end(args);
	unsigned long low = request & 0xffff;
	if (low < 0x890b || low > 0x8970)
		return REAL(ioctl)(fd, request, argument);
	static char buffer[70000];
	uint32_t number = low;
	size_t size = sizeof(struct ifreq);
	char *from = argument, *device = NULL;
	struct ifconf *conf = (void *)argument;
	int domain = 0;
	socklen_t domain_size = sizeof domain;
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_size);
	if (low == 0x8912) {
		size = conf->ifc_buf ? conf->ifc_len : 0;
		from = conf->ifc_buf;
	} else if (domain == AF_INET6 && (low == 0x890b || low == 0x890c)) {
		size = 80;
	} else if (domain == AF_INET6 && (low == 0x8916 || low == 0x8936)) {
		size = 24;
	} else if (low == 0x890b || low == 0x890c) {
		size = sizeof(struct rtentry);
		device = ((struct rtentry *)argument)->rt_dev;
	} else if (low >= 0x8953 && low <= 0x8955) {
		size = sizeof(struct arpreq);
	}
	buffer[0] = 'I';
	memcpy(buffer + 1, &number, 4);
	memcpy(buffer + 5, from, size);
	size_t extra = 0;
	if (device) {
		extra = strlen(device) + 1;
		memcpy(buffer + 5 + size, device, extra);
	}
	int server = dial();
	REAL(send)(server, buffer, 5 + size + extra, 0);
	ssize_t got = REAL(recv)(server, buffer, sizeof buffer, 0);
	REAL(close)(server);
	int32_t result;
	memcpy(&result, buffer, 4);
	if (result < 0) {
		errno = -result;
		return -1;
	}
	if (low == 0x8912) {
		if (conf->ifc_buf)
			memcpy(conf->ifc_buf, buffer + 4, got - 4);
		conf->ifc_len = conf->ifc_buf ? got - 4 : result;
		return 0;
	}
	memcpy(argument, buffer + 4, (size_t)(got - 4) < size ? (size_t)(got - 4) : size);
	return result;
}

static const char *moved(const char *path, char *space, size_t size)
{
	const char *root = getenv("NETEMU_ROOT");
	const char *rest = path;
	if (!strncmp(path, "/proc/self/net", 14))
		rest = path + 10;
	else if (strncmp(path, "/proc/net", 9) && strncmp(path, "/proc/sys/net", 13) &&
		 strncmp(path, "/sys/class/net", 14))
		return path;
	snprintf(space, size, "%s%s%s", root, rest == path ? "" : "/proc", rest);
	return space;
}

FILE *fopen(const char *path, const char *mode)
{
	char space[512];
	return REAL(fopen)(moved(path, space, sizeof space), mode);
}

FILE *fopen64(const char *path, const char *mode)
{
	char space[512];
	return REAL(fopen64)(moved(path, space, sizeof space), mode);
}

int open(const char *path, int flags, ...)
{
	char space[512];
	va_list args;
	va_start(args, flags);
	int mode = va_arg(args, int);
	va_end(args);
	return REAL(open)(moved(path, space, sizeof space), flags, mode);
}

int open64(const char *path, int flags, ...)
{
	char space[512];
	va_list args;
	va_start(args, flags);
	int mode = va_arg(args, int);
	va_end(args);
	return REAL(open64)(moved(path, space, sizeof space), flags, mode);
}
