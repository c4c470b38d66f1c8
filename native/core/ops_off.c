/* SPDX-License-Identifier: MIT
 *
 * The backend that does nothing of its own: each operation is the BSD call, and a spawned
 * listener is the global one, shared.
 */
#include "ops.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static int off_open(struct fs_channel *channel, const char *device, char why[FS_WHY_MAX])
{
    (void)channel, (void)device, (void)why;
    return 0;
}

static void off_free(struct fs_channel *channel)
{
    (void)channel;
}

static int off_socket(struct fs_channel *channel, int family, int type, int protocol)
{
    (void)channel;
    int fd = socket(family, type, protocol);
    return fd < 0 ? -errno : fd;
}

static int off_listen(struct fs_channel *channel, int fd, int backlog)
{
    (void)channel;
    return listen(fd, backlog) < 0 ? -errno : 0;
}

static int off_spawn_listen(struct fs_channel *channel, int fd, int cpu)
{
    (void)channel, (void)cpu;
    int listening = fs_socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN);
    return listening > 0 ? 0 : listening < 0 ? listening : -EINVAL;
}

static int off_spawn_all_listen(struct fs_channel *channel)
{
    (void)channel;
    return 0;
}

static int off_accept(struct fs_channel *channel, int fd, struct sockaddr *address,
                      socklen_t *length, int flags)
{
    (void)channel;
    int connection = accept4(fd, address, length, flags);
    return connection < 0 ? -errno : connection;
}

static int off_shutdown_listen(struct fs_channel *channel, int fd, int how)
{
    (void)channel;
    return shutdown(fd, how) < 0 ? -errno : 0;
}

static int off_close(struct fs_channel *channel, int fd)
{
    (void)channel;
    return close(fd) < 0 ? -errno : 0;
}

const struct ops ops_off = {
    .backend = FS_BACKEND_OFF,
    .open = off_open,
    .free = off_free,
    .socket = off_socket,
    .listen = off_listen,
    .spawn_listen = off_spawn_listen,
    .spawn_all_listen = off_spawn_all_listen,
    .accept = off_accept,
    .shutdown_listen = off_shutdown_listen,
    .close = off_close,
};
