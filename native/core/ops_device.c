/* SPDX-License-Identifier: MIT
 *
 * The backend with our kernel module: each operation is an ioctl on /dev/fastsocket.
 */
#include "ops.h"

#include <errno.h>
#include <fastsocket/uapi.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int call(const struct fs_channel *channel, unsigned long operation,
                struct fsocket_ioctl_arg *arg)
{
    int rc = ioctl(channel->device, operation, arg);
    return rc < 0 ? -errno : rc;
}

/* Whether the device supports our ABI. There is no operation for asking, but SOCKET with a family
 * that cannot exist creates nothing and answers EAFNOSUPPORT; a foreign device answers ENOTTY. */
static int probe(const struct fs_channel *channel)
{
    struct fsocket_ioctl_arg arg = {.op.socket = {.family = UINT16_MAX, .type = SOCK_STREAM}};
    int rc = call(channel, FSOCKET_IOC_SOCKET, &arg);
    if (rc >= 0)
        close(rc);
    return rc == -EAFNOSUPPORT ? 0 : -ENOTTY;
}

/* Programs that close unknown descriptors begin with the low numbers, and some programs rely on
 * getting these. */
static int out_of_the_way(int fd)
{
    int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 1000);
    if (high < 0)
        return fd;
    close(fd);
    return high;
}

static int device_open(struct fs_channel *channel, const char *device, char why[FS_WHY_MAX])
{
    struct stat st;
    int rc = 0;
    channel->device = out_of_the_way(open(device, O_RDWR | O_CLOEXEC));
    if (channel->device < 0) {
        rc = -errno;
        if (rc == -ENOENT)
            snprintf(why, FS_WHY_MAX, "%.80s does not exist: the kernel module is not loaded",
                     device);
        else if (rc == -EACCES || rc == -EPERM)
            snprintf(why, FS_WHY_MAX, "%.80s may not be opened by uid %u: %s", device,
                     (unsigned)geteuid(), strerror(-rc));
        else
            snprintf(why, FS_WHY_MAX, "%.80s: %s", device, strerror(-rc));
        return rc;
    }
    if (fstat(channel->device, &st) < 0)
        rc = -errno;
    else if (!S_ISCHR(st.st_mode))
        rc = -ENOTTY;
    else
        rc = probe(channel);
    if (rc) {
        snprintf(why, FS_WHY_MAX, "%.80s is not the fastsocket device", device);
        close(channel->device);
        channel->device = -1;
        return rc;
    }
    snprintf(why, FS_WHY_MAX, "%.80s is present", device);
    return 0;
}

static void device_free(struct fs_channel *channel)
{
    close(channel->device);
}

static int device_socket(struct fs_channel *channel, int family, int type, int protocol)
{
    struct fsocket_ioctl_arg arg = {
        .op.socket = {.family = (__u32)family, .type = (__u32)type, .protocol = (__u32)protocol}};
    return call(channel, FSOCKET_IOC_SOCKET, &arg);
}

static int device_listen(struct fs_channel *channel, int fd, int backlog)
{
    struct fsocket_ioctl_arg arg = {.fd = (__u32)fd, .backlog = (__u32)backlog};
    return call(channel, FSOCKET_IOC_LISTEN, &arg);
}

static int device_spawn_listen(struct fs_channel *channel, int fd, int cpu)
{
    struct fsocket_ioctl_arg arg = {.fd = (__u32)fd, .op.spawn = {.cpu = cpu}};
    return call(channel, FSOCKET_IOC_SPAWN_LISTEN, &arg);
}

static int device_spawn_all_listen(struct fs_channel *channel)
{
    struct fsocket_ioctl_arg arg = {.op.spawn = {.cpu = -1}};
    return call(channel, FSOCKET_IOC_SPAWN_ALL_LISTEN, &arg);
}

static int device_accept(struct fs_channel *channel, int fd, struct sockaddr *address,
                         socklen_t *length, int flags)
{
    struct fsocket_ioctl_arg arg = {
        .fd = (__u32)fd,
        .op.accept = {.sockaddr = address, .sockaddr_len = (int *)length, .flags = flags}};
    return call(channel, FSOCKET_IOC_ACCEPT, &arg);
}

static int device_shutdown_listen(struct fs_channel *channel, int fd, int how)
{
    struct fsocket_ioctl_arg arg = {.fd = (__u32)fd, .op.shutdown = {.how = how}};
    return call(channel, FSOCKET_IOC_SHUTDOWN_LISTEN, &arg);
}

static int device_close(struct fs_channel *channel, int fd)
{
    struct fsocket_ioctl_arg arg = {.fd = (__u32)fd};
    return call(channel, FSOCKET_IOC_CLOSE, &arg);
}

const struct ops ops_device = {
    .backend = FS_BACKEND_DEVICE,
    .open = device_open,
    .free = device_free,
    .socket = device_socket,
    .listen = device_listen,
    .spawn_listen = device_spawn_listen,
    .spawn_all_listen = device_spawn_all_listen,
    .accept = device_accept,
    .shutdown_listen = device_shutdown_listen,
    .close = device_close,
};
