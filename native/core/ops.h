/* SPDX-License-Identifier: MIT
 *
 * The operations of a channel backend: one file a backend, the same functions in each.
 */
#ifndef FS_CORE_OPS_H
#define FS_CORE_OPS_H

#include <fastsocket/fs.h>

struct channel_listener; /* a listening descriptor of the reuseport backend, with its table */

struct fs_channel {
    const struct ops *ops;
    int device; /* -1 unless the device backend */
    uint32_t slots;
    enum fs_steer steer;
    struct channel_listener *listeners;
    size_t listener_count;
};

struct ops {
    enum fs_backend backend;
    /* Fails with a reason in `why`; succeeds with what it found there. */
    int (*open)(struct fs_channel *channel, const char *device, char why[FS_WHY_MAX]);
    void (*free)(struct fs_channel *channel);
    int (*socket)(struct fs_channel *channel, int family, int type, int protocol);
    int (*listen)(struct fs_channel *channel, int fd, int backlog);
    int (*spawn_listen)(struct fs_channel *channel, int fd, int cpu);
    int (*spawn_all_listen)(struct fs_channel *channel);
    int (*accept)(struct fs_channel *channel, int fd, struct sockaddr *address, socklen_t *length,
                  int flags);
    int (*shutdown_listen)(struct fs_channel *channel, int fd, int how);
    int (*close)(struct fs_channel *channel, int fd);
};

extern const struct ops ops_device, ops_reuseport, ops_off;

#endif
