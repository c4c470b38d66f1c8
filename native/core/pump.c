/* SPDX-License-Identifier: MIT
 *
 * The pump (fastsocket/pump.h).
 *
 * Facts on which it relies:
 * - a fork keeps an epoll registration alive after a close (epoll(7), questions 6). So DEL comes
 *   before close, and an event carries the generation of its registration;
 * - data held back by MSG_MORE leaves together with the FIN that shutdown(2) adds to it
 *   (tcp_send_fin): one segment instead of two. close(2) alone would do the same, but drops the
 *   held-back data if the client has sent bytes that were not read (tcp_close sends RST then);
 * - events of one epoll_wait(2) that are not handled would go behind all others, and be passed over
 *   again. So all of them are handled before the next epoll_wait.
 */
#include <fastsocket/pump.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ARENA       (256 * 1024)
#define ROOM        (64 * 1024) /* a recv(2) is not worthwhile with less */
#define FIRST_BYTES (16 * 1024) /* received at once from a connection just accepted */
#define SILENT      16

struct registration {
    void *owner;
    uint32_t generation;
    uint32_t events; /* 0: not registered */
    enum fs_read read;
    bool unheard; /* nothing was received yet */
};

struct fs_pump {
    int epfd;
    struct registration *watches; /* by descriptor */
    int capacity;
    struct epoll_event ready[FS_PUMP_BATCH];
    int ready_next, ready_count;
    struct fs_input inputs[FS_PUMP_BATCH];
    char *arena;
    size_t used;
    uint64_t unseen[2]; /* bytes received and sent, if the caller does not count them */
    uint64_t *bytes;
    unsigned silent; /* connections in a row that had sent nothing when they were accepted */
};

int fs_pump_open(struct fs_pump **out)
{
    struct fs_pump *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->arena = malloc(ARENA);
    p->epfd = p->arena ? epoll_create1(EPOLL_CLOEXEC) : -1;
    if (p->epfd < 0) {
        int rc = p->arena ? -errno : -ENOMEM;
        free(p->arena);
        free(p);
        return rc;
    }
    p->bytes = p->unseen;
    *out = p;
    return 0;
}

void fs_pump_free(struct fs_pump *p)
{
    if (!p)
        return;
    close(p->epfd);
    free(p->watches);
    free(p->arena);
    free(p);
}

void fs_pump_count(struct fs_pump *p, uint64_t bytes[2])
{
    p->bytes = bytes ? bytes : p->unseen;
}

int fs_pump_fd(const struct fs_pump *p)
{
    return p->epfd;
}

const struct fs_input *fs_pump_inputs(const struct fs_pump *p)
{
    return p->inputs;
}

/* ---- watching ---- */

static struct registration *watch_of(struct fs_pump *p, int fd)
{
    if (fd >= p->capacity) {
        int capacity = p->capacity ? p->capacity : 64;
        while (capacity <= fd)
            capacity *= 2;
        struct registration *grown = realloc(p->watches, (size_t)capacity * sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + p->capacity, 0, (size_t)(capacity - p->capacity) * sizeof *grown);
        p->watches = grown;
        p->capacity = capacity;
    }
    return &p->watches[fd];
}

static int control(struct fs_pump *p, int op, int fd, const struct registration *w)
{
    struct epoll_event event = {
        .events = w->events,
        .data.u64 = (uint64_t)w->generation << 32 | (uint32_t)fd,
    };
    return epoll_ctl(p->epfd, op, fd, &event) < 0 ? -errno : 0;
}

static void unwatch(struct fs_pump *p, int fd)
{
    if (fd >= p->capacity || p->watches[fd].events == 0)
        return;
    struct registration *w = &p->watches[fd];
    epoll_ctl(p->epfd, EPOLL_CTL_DEL, fd, NULL);
    *w = (struct registration){.generation = w->generation + 1};
}

static int watch(struct fs_pump *p, const struct fs_output *out, uint32_t events)
{
    int fd = out->fd;
    if (events == 0) {
        /* Unregister it: EPOLLHUP and EPOLLERR would come even for no events. */
        unwatch(p, fd);
        return 0;
    }
    struct registration *w = watch_of(p, fd);
    if (!w)
        return -ENOMEM;
    /* The descriptor was closed behind our back: epoll has forgotten it. */
    if (w->owner != out->owner)
        unwatch(p, fd);
    bool known = w->events != 0;
    w->owner = out->owner;
    w->read = out->read;
    w->unheard = out->unheard;
    if (w->events == events)
        return 0;
    w->events = events;
    int rc = control(p, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, w);
    if (rc && known)
        unwatch(p, fd);
    else if (rc)
        *w = (struct registration){.generation = w->generation + 1};
    return rc;
}

int fs_pump_renew(struct fs_pump *p)
{
    int fresh = epoll_create1(EPOLL_CLOEXEC);
    if (fresh < 0)
        return -errno;
    /* epoll_ctl(2): ENOENT if the descriptor is an epoll set. Else the process closed its inherited
     * descriptors, as daemons do, and the number may be another file's. */
    if (epoll_ctl(p->epfd, EPOLL_CTL_DEL, fresh, NULL) == 0 || errno != ENOENT) {
        p->epfd = fresh;
        return -EBADF;
    }
    /* The number stays; the set that is shared with the parent goes. */
    int rc = dup3(fresh, p->epfd, O_CLOEXEC) < 0 ? -errno : 0;
    close(fresh);
    p->ready_next = p->ready_count = 0;
    for (int fd = 0; fd < p->capacity && !rc; fd++)
        if (p->watches[fd].events && control(p, EPOLL_CTL_ADD, fd, &p->watches[fd]))
            p->watches[fd].events = 0; /* closed by the child */
    return rc;
}

/* ---- in ---- */

static void receive(struct fs_pump *p, struct fs_input *in, size_t most, bool first)
{
    size_t room = ARENA - p->used < most ? ARENA - p->used : most;
    ssize_t got = first ? fs_receive_first(in->fd, p->arena + p->used, room, &in->waited)
                        : recv(in->fd, p->arena + p->used, room, 0);
    in->received = true;
    in->result = got < 0 ? -errno : (int)got;
    in->data = p->arena + p->used;
    if (got > 0) {
        p->used += (size_t)got;
        fs_count(&p->bytes[0], (uint64_t)got);
    }
}

/* Whether a connection just accepted is worth a recv(2). If clients send nothing so soon, which
 * depends on the network and on TCP_DEFER_ACCEPT, only one in SILENT is tried; epoll reports the
 * bytes of the others. */
static bool may_have_spoken(struct fs_pump *p)
{
    return p->silent < SILENT || p->silent % SILENT == 0;
}

/* accept(2): network errors of a connection that never came about; the next one may be fine. */
static bool is_passing(int error)
{
    switch (error) {
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EINTR:
        return true;
    default:
        return false;
    }
}

int fs_pump_accept(struct fs_pump *p, struct fs_table *table, int slot, int source, int most,
                   bool nodelay, int *error)
{
    int count = 0;
    p->used = 0;
    *error = 0;
    most = most < FS_PUMP_BATCH ? most : FS_PUMP_BATCH;
    for (int tries = 0; tries < most && ARENA - p->used >= FIRST_BYTES; tries++) {
        struct sockaddr_storage peer;
        socklen_t length = sizeof peer;
        int fd = fs_table_accept(table, slot, source, (struct sockaddr *)&peer, &length,
                                 SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && is_passing(-fd))
            continue;
        if (fd < 0) {
            *error = fd;
            break;
        }
        struct fs_input *in = &p->inputs[count++];
        *in = (struct fs_input){.fd = fd, .waited = -1, .peer_length = length};
        memcpy(in->peer, &peer, length < sizeof in->peer ? length : sizeof in->peer);
        if (nodelay)
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        if (may_have_spoken(p))
            receive(p, in, FIRST_BYTES, true);
        else
            in->result = -EAGAIN;
        p->silent = in->result == -EAGAIN ? p->silent + 1 : 0;
    }
    return count;
}

int fs_pump_poll(struct fs_pump *p, bool *more)
{
    int count = 0;
    p->used = 0;
    if (p->ready_next == p->ready_count) {
        int ready = epoll_wait(p->epfd, p->ready, FS_PUMP_BATCH, 0);
        p->ready_next = 0;
        p->ready_count = ready < 0 ? 0 : ready;
    }
    while (p->ready_next < p->ready_count && ARENA - p->used >= ROOM) {
        const struct epoll_event *event = &p->ready[p->ready_next++];
        int fd = (int)(uint32_t)event->data.u64;
        struct registration *w = &p->watches[fd];
        if (w->events == 0 || w->generation != event->data.u64 >> 32)
            continue; /* closed since, in this very batch */
        struct fs_input *in = &p->inputs[count++];
        *in = (struct fs_input){.owner = w->owner, .fd = fd, .waited = -1};
        bool broken = event->events & (EPOLLERR | EPOLLHUP);
        in->writable = w->events & EPOLLOUT && (broken || event->events & EPOLLOUT);
        if (!(w->events & EPOLLIN && (broken || event->events & EPOLLIN)))
            continue;
        if (w->read == FS_READ_RECEIVE) {
            receive(p, in, ARENA, w->unheard);
            w->unheard = w->unheard && in->result <= 0;
        } else {
            in->readable = true;
        }
    }
    *more = p->ready_next < p->ready_count;
    return count;
}

/* ---- out ---- */

/* Returns the bytes sent, or -errno. *all: nothing is left of `out`. */
static ssize_t transmit(struct fs_output *out, bool *all)
{
    uint32_t count = out->count < FS_PUMP_PARTS ? out->count : FS_PUMP_PARTS;
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += out->parts[i].iov_len;
    *all = !out->more && count == out->count;
    out->full = false;
    if (size == 0)
        return 0;
    int flags = MSG_NOSIGNAL;
    if (!*all || out->end || (out->close && !out->keep))
        flags |= MSG_MORE;
    ssize_t sent;
    if (count == 1) {
        sent = send(out->fd, out->parts->iov_base, size, flags);
    } else {
        struct msghdr message = {.msg_iov = (struct iovec *)out->parts, .msg_iovlen = count};
        sent = sendmsg(out->fd, &message, flags);
    }
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        sent = 0;
    if (sent < 0)
        return -errno;
    out->full = (size_t)sent < size;
    *all = *all && !out->full;
    return sent;
}

static void flush(struct fs_pump *p, struct fs_output *out)
{
    bool all;
    out->done = false;
    out->result = transmit(out, &all);
    if (out->result < 0) {
        unwatch(p, out->fd);
        return;
    }
    fs_count(&p->bytes[1], (uint64_t)out->result);
    bool closing = all && out->close;
    if (all && (out->end || (closing && !out->keep && out->result > 0)))
        shutdown(out->fd, SHUT_WR);
    if (closing) {
        unwatch(p, out->fd);
        if (!out->keep)
            close(out->fd);
    } else {
        uint32_t events = (out->read == FS_READ_NOT ? 0 : EPOLLIN) | (all ? 0 : (uint32_t)EPOLLOUT);
        int rc = watch(p, out, events);
        if (rc) {
            out->result = rc;
            unwatch(p, out->fd);
            return;
        }
    }
    out->done = all;
}

void fs_pump_flush(struct fs_pump *p, struct fs_output *outputs, int count)
{
    for (int i = 0; i < count; i++)
        flush(p, &outputs[i]);
}
