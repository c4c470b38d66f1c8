/* SPDX-License-Identifier: MIT
 *
 * The operations of a channel backend: one file per backend, the same functions in each.
 */
#ifndef FS_CORE_OPS_H
#define FS_CORE_OPS_H

#include <fastsocket/fs.h>

struct channel_listener; /* a listening descriptor of the reuseport backend, with its table */

struct fs_channel {
    const struct ops *ops;
    int device; /* -1 unless the backend is device */
    uint32_t slots;
    enum fs_steer steer;
    struct channel_listener *listeners;
    size_t listener_count;
};

struct ops {
    enum fs_backend backend;
    /* On failure `why` gets the reason. On success the device backend writes its finding there; the
     * other backends leave it alone. */
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
