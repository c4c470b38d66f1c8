/* SPDX-License-Identifier: MIT
 *
 * The stock-kernel backend: a listen table behind each listening descriptor. A spawned listener is
 * a claimed slot; accept tries its own slot, slots without an owner, then the global listener.
 */
#include "ops.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

struct channel_listener {
    int fd;
    uint64_t cookie; /* identifies the socket: descriptor numbers are used again */
    struct fs_table *table;
    bool blocking; /* the program's socket was blocking; now it must not block between slots */
    pid_t made_by; /* the process that listened */
    int slot;      /* claimed by process `spawned_by`: a fork claims anew */
    pid_t spawned_by;
};

static int my_slot(const struct channel_listener *l)
{
    return l->spawned_by == getpid() ? l->slot : FS_GLOBAL;
}

/* Forget a listener: take no more connections, and leave its descriptor as the program had it. */
static void drop(struct fs_channel *channel, struct channel_listener *l)
{
    int slot = my_slot(l);
    /* If another thread claimed the slot, that thread must release it; steer away in any case. */
    if (slot != FS_GLOBAL && fs_table_release(l->table, slot) == -EPERM)
        fs_table_activate(l->table, slot, false);
    if (l->blocking && l->made_by == getpid() && fs_socket_cookie(l->fd) == l->cookie)
        fcntl(l->fd, F_SETFL, fcntl(l->fd, F_GETFL) & ~O_NONBLOCK);
    fs_table_free(l->table);
    *l = channel->listeners[--channel->listener_count];
}

static struct channel_listener *find(struct fs_channel *channel, int fd)
{
    for (size_t i = 0; i < channel->listener_count; i++) {
        struct channel_listener *l = &channel->listeners[i];
        if (l->fd != fd)
            continue;
        if (l->cookie == fs_socket_cookie(fd))
            return l;
        drop(channel, l); /* the program closed it, and the number is another socket's now */
        break;
    }
    return NULL;
}

static int reuseport_open(struct fs_channel *channel, const char *device, char why[FS_WHY_MAX])
{
    (void)channel, (void)device, (void)why;
    return 0;
}

static void reuseport_free(struct fs_channel *channel)
{
    while (channel->listener_count > 0)
        drop(channel, &channel->listeners[0]);
    free(channel->listeners);
}

static int reuseport_socket(struct fs_channel *channel, int family, int type, int protocol)
{
    return ops_off.socket(channel, family, type, protocol);
}

static int reuseport_listen(struct fs_channel *channel, int fd, int backlog)
{
    if (find(channel, fd)) /* a second listen(2) only changes the backlog */
        return listen(fd, backlog) < 0 ? -errno : 0;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    struct channel_listener *more =
        realloc(channel->listeners, (channel->listener_count + 1) * sizeof *more);
    if (!more)
        return -ENOMEM;
    channel->listeners = more;
    struct channel_listener *l = &more[channel->listener_count];
    *l = (struct channel_listener){.fd = fd,
                                   .cookie = fs_socket_cookie(fd),
                                   .blocking = !(flags & O_NONBLOCK),
                                   .made_by = getpid(),
                                   .slot = FS_GLOBAL};
    struct fs_table_options options = {.slots = channel->slots,
                                       .records = channel->slots,
                                       .backlog = backlog,
                                       .steer = channel->steer};
    int rc = fs_table_create(&l->table, fd, &options);
    if (rc)
        return rc;
    if (l->blocking && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        rc = -errno;
        fs_table_free(l->table);
        return rc;
    }
    channel->listener_count++;
    return 0;
}

static int reuseport_spawn_listen(struct fs_channel *channel, int fd, int cpu)
{
    struct channel_listener *l = find(channel, fd);
    if (!l)
        return ops_off.spawn_listen(channel, fd, cpu); /* not a listener of ours: shared as it is */
    int rc = fs_table_reap(l->table);
    if (rc < 0)
        return rc;
    int slot = fs_table_claim(l->table, my_slot(l), cpu);
    if (slot == -EBUSY)
        return 0; /* more processes than slots: this one helps the others */
    if (slot < 0)
        return slot;
    l->slot = slot;
    l->spawned_by = getpid();
    return fs_table_activate(l->table, slot, true);
}

static int reuseport_spawn_all_listen(struct fs_channel *channel)
{
    for (size_t i = 0; i < channel->listener_count; i++) {
        int rc = reuseport_spawn_listen(channel, channel->listeners[i].fd, -1);
        if (rc)
            return rc;
    }
    return 0;
}

/* A process that found no free slot helps a few of the processes that did. */
static uint32_t sources(const struct channel_listener *l, int *out)
{
    int mine = my_slot(l);
    fs_table_reap(l->table); /* steers away from dead owners before we drain their slots */
    return fs_table_sources(l->table, mine, mine == FS_GLOBAL ? FS_SIBLINGS : 0, out);
}

static int reuseport_accept(struct fs_channel *channel, int fd, struct sockaddr *address,
                            socklen_t *length, int flags)
{
    struct channel_listener *l = find(channel, fd);
    if (!l)
        return ops_off.accept(channel, fd, address, length, flags);
    int slots[FS_SLOTS_MAX + 1], rc = -EAGAIN;
    while (rc == -EAGAIN) {
        uint32_t count = sources(l, slots);
        for (uint32_t i = 0; i < count && rc == -EAGAIN; i++)
            rc = fs_table_accept(l->table, my_slot(l), slots[i], address, length, flags);
        if (rc != -EAGAIN || !l->blocking)
            break;
        struct pollfd polled[FS_SLOTS_MAX + 1];
        for (uint32_t i = 0; i < count; i++)
            polled[i] = (struct pollfd){.fd = fs_table_fd(l->table, slots[i]), .events = POLLIN};
        /* A sibling may die meanwhile: look again for orphans at least once a second. */
        if (poll(polled, count, 1000) < 0)
            rc = -errno;
    }
    return rc;
}

static int reuseport_shutdown_listen(struct fs_channel *channel, int fd, int how)
{
    struct channel_listener *l = find(channel, fd);
    struct fs_table_info info = {0};
    if (l)
        fs_table_read(l->table, &info);
    for (uint32_t i = 0; !info.shared && i < info.slots; i++)
        shutdown(fs_table_fd(l->table, (int)i), how);
    return ops_off.shutdown_listen(channel, fd, how);
}

static int reuseport_close(struct fs_channel *channel, int fd)
{
    struct channel_listener *l = find(channel, fd);
    if (l)
        drop(channel, l);
    return ops_off.close(channel, fd);
}

const struct ops ops_reuseport = {
    .backend = FS_BACKEND_REUSEPORT,
    .open = reuseport_open,
    .free = reuseport_free,
    .socket = reuseport_socket,
    .listen = reuseport_listen,
    .spawn_listen = reuseport_spawn_listen,
    .spawn_all_listen = reuseport_spawn_all_listen,
    .accept = reuseport_accept,
    .shutdown_listen = reuseport_shutdown_listen,
    .close = reuseport_close,
};
