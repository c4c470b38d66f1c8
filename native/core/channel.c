/* SPDX-License-Identifier: MIT
 *
 * Choosing a backend and handing each call to it.
 */
#include "ops.h"

#include <errno.h>
#include <fastsocket/uapi.h>
#include <stdio.h>
#include <stdlib.h>

static const struct ops *const backends[] = {
    [FS_BACKEND_DEVICE] = &ops_device,
    [FS_BACKEND_REUSEPORT] = &ops_reuseport,
    [FS_BACKEND_OFF] = &ops_off,
};

const char *fs_backend_name(enum fs_backend backend)
{
    static const char *const names[] = {"auto", "device", "reuseport", "off"};
    return (unsigned)backend < sizeof names / sizeof *names ? names[backend] : "unknown";
}

static int open_backend(struct fs_channel *channel, enum fs_backend backend, const char *device,
                        char why[FS_WHY_MAX])
{
    channel->ops = backends[backend];
    return channel->ops->open(channel, device, why);
}

int fs_channel_open(struct fs_channel **out, enum fs_backend wanted,
                    const struct fs_channel_options *options, char why[FS_WHY_MAX])
{
    struct fs_channel *channel = calloc(1, sizeof *channel);
    const char *device = options && options->device ? options->device : FSOCKET_DEVICE;
    why[0] = '\0';
    if (!channel)
        return -ENOMEM;
    channel->device = -1;
    channel->slots = options && options->slots ? options->slots : fs_default_slots();
    channel->steer = options ? options->steer : FS_STEER_AUTO;
    int rc = -EINVAL;
    if (channel->slots > FS_SLOTS_MAX) {
        snprintf(why, FS_WHY_MAX, "%u slots are too many: at most %d", channel->slots,
                 FS_SLOTS_MAX);
    } else if (wanted == FS_BACKEND_AUTO) {
        rc = open_backend(channel, FS_BACKEND_DEVICE, device, why);
        if (rc) /* `why` keeps the reason against the device */
            rc = open_backend(channel, FS_BACKEND_REUSEPORT, device, why);
    } else if ((unsigned)wanted <= FS_BACKEND_OFF) {
        rc = open_backend(channel, wanted, device, why);
        if (!rc && why[0] == '\0')
            snprintf(why, FS_WHY_MAX, "requested");
    } else {
        snprintf(why, FS_WHY_MAX, "no such backend: %d", (int)wanted);
    }
    if (rc) {
        free(channel);
        return rc;
    }
    *out = channel;
    return 0;
}

void fs_channel_free(struct fs_channel *channel)
{
    if (!channel)
        return;
    channel->ops->free(channel);
    free(channel);
}

enum fs_backend fs_channel_backend(const struct fs_channel *channel)
{
    return channel->ops->backend;
}

int fs_channel_socket(struct fs_channel *channel, int family, int type, int protocol)
{
    return channel->ops->socket(channel, family, type, protocol);
}

int fs_channel_listen(struct fs_channel *channel, int fd, int backlog)
{
    return channel->ops->listen(channel, fd, backlog);
}

int fs_channel_spawn_listen(struct fs_channel *channel, int fd, int cpu)
{
    return channel->ops->spawn_listen(channel, fd, cpu);
}

int fs_channel_spawn_all_listen(struct fs_channel *channel)
{
    return channel->ops->spawn_all_listen(channel);
}

int fs_channel_accept(struct fs_channel *channel, int fd, struct sockaddr *address,
                      socklen_t *length, int flags)
{
    return channel->ops->accept(channel, fd, address, length, flags);
}

int fs_channel_shutdown_listen(struct fs_channel *channel, int fd, int how)
{
    return channel->ops->shutdown_listen(channel, fd, how);
}

int fs_channel_close(struct fs_channel *channel, int fd)
{
    return channel->ops->close(channel, fd);
}
