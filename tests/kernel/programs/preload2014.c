/* SPDX-License-Identifier: MIT
 *
 * The 2014 way, written from the published header alone: a preload library that turns the socket
 * calls into ioctls. It opens the device read-only, and initialises nothing that an operation does
 * not use.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fastsocket/uapi.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int channel = -1;
static unsigned char ours[65536]; /* sockets that came from the channel */

static int is_ours(int fd)
{
    return fd >= 0 && fd < (int)sizeof ours && ours[fd];
}

static void mark(int fd, int value)
{
    if (fd >= 0 && fd < (int)sizeof ours)
        ours[fd] = (unsigned char)value;
}

#define REAL(type, name, ...)                                                                      \
    static type (*real)(__VA_ARGS__);                                                              \
    if (!real)                                                                                     \
    *(void **)&real = dlsym(RTLD_NEXT, name)

__attribute__((constructor)) static void start(void)
{
    channel = open("/dev/fastsocket", O_RDONLY);
    if (channel >= 0) { /* out of the way of programs that count on low numbers */
        int high = fcntl(channel, F_DUPFD_CLOEXEC, 900);
        close(channel);
        channel = high;
    }
}

static struct fsocket_ioctl_arg garbage(void)
{
    struct fsocket_ioctl_arg arg;
    memset(&arg, 0xa5, sizeof arg);
    return arg;
}

int socket(int family, int type, int protocol)
{
    REAL(int, "socket", int, int, int);
    if (channel < 0 || family != AF_INET || (type & 0xf) != SOCK_STREAM)
        return real(family, type, protocol);
    struct fsocket_ioctl_arg arg = garbage();
    arg.op.socket.family = (__u32)family;
    arg.op.socket.type = (__u32)type;
    arg.op.socket.protocol = (__u32)protocol;
    int fd = ioctl(channel, FSOCKET_IOC_SOCKET, &arg);
    mark(fd, 1);
    return fd;
}

int listen(int fd, int backlog)
{
    REAL(int, "listen", int, int);
    if (!is_ours(fd))
        return real(fd, backlog);
    struct fsocket_ioctl_arg arg = garbage();
    arg.fd = (__u32)fd;
    arg.backlog = (__u32)backlog;
    int rc = ioctl(channel, FSOCKET_IOC_LISTEN, &arg);
    if (rc)
        return rc;
    arg = garbage();
    arg.fd = (__u32)fd;
    arg.op.spawn.cpu = -1;
    return ioctl(channel, FSOCKET_IOC_SPAWN_LISTEN, &arg);
}

pid_t fork(void)
{
    REAL(pid_t, "fork", void);
    pid_t pid = real();
    if (pid == 0 && channel >= 0) {
        struct fsocket_ioctl_arg arg = garbage();
        ioctl(channel, FSOCKET_IOC_SPAWN_ALL_LISTEN, &arg);
    }
    return pid;
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    REAL(int, "accept4", int, struct sockaddr *, socklen_t *, int);
    if (!is_ours(fd))
        return real(fd, address, length, flags);
    struct fsocket_ioctl_arg arg = garbage();
    arg.fd = (__u32)fd;
    arg.op.accept.sockaddr = address;
    arg.op.accept.sockaddr_len = (int *)length;
    arg.op.accept.flags = flags;
    int connection = ioctl(channel, FSOCKET_IOC_ACCEPT, &arg);
    mark(connection, 0);
    return connection;
}

int accept(int fd, struct sockaddr *address, socklen_t *length)
{
    return accept4(fd, address, length, 0);
}

int close(int fd)
{
    REAL(int, "close", int);
    if (!is_ours(fd))
        return real(fd);
    struct fsocket_ioctl_arg arg = garbage();
    arg.fd = (__u32)fd;
    mark(fd, 0);
    return ioctl(channel, FSOCKET_IOC_CLOSE, &arg);
}

int shutdown(int fd, int how)
{
    REAL(int, "shutdown", int, int);
    if (!is_ours(fd))
        return real(fd, how);
    struct fsocket_ioctl_arg arg = garbage();
    arg.fd = (__u32)fd;
    arg.op.shutdown.how = how;
    return ioctl(channel, FSOCKET_IOC_SHUTDOWN_LISTEN, &arg);
}
