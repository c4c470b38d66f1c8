/* SPDX-License-Identifier: MIT */
#include "wait.h"
#include "fdtable.h"
#include "real.h"
#include "reports.h"
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

/* Once there are claims, these waiters are not told of further changes: they check by themselves,
 * once a second. */
static const struct timespec slice = {.tv_sec = 1};

enum { NANO = 1000000000 };

void wait_deadline(const struct timespec *timeout, struct timespec *deadline)
{
    clock_gettime(CLOCK_MONOTONIC, deadline);
    deadline->tv_nsec += timeout->tv_nsec;
    deadline->tv_sec += timeout->tv_sec + deadline->tv_nsec / NANO;
    deadline->tv_nsec %= NANO;
}

void wait_left(const struct timespec *deadline, struct timespec *left)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t nanoseconds =
        (deadline->tv_sec - now.tv_sec) * INT64_C(1000000000) + deadline->tv_nsec - now.tv_nsec;
    nanoseconds = nanoseconds < 0 ? 0 : nanoseconds;
    *left = (struct timespec){.tv_sec = nanoseconds / NANO, .tv_nsec = nanoseconds % NANO};
}

static struct fs_table *table_of(int fd)
{
    struct listener *l = listener_of(fd);
    return l ? atomic_load_explicit(&l->table, memory_order_acquire) : NULL;
}

/* ---- poll(2) ---- */

static struct fs_table *polled_table(const struct pollfd *entry)
{
    return entry->events & (POLLIN | POLLRDNORM) ? table_of(entry->fd) : NULL;
}

static bool polls_hidden(const struct pollfd *entry)
{
    return fdtable_kind(entry->fd) == FD_HIDDEN;
}

/* The slots of the listeners that are polled, and the hidden descriptors. */
static nfds_t count_known(const struct pollfd *fds, nfds_t count)
{
    nfds_t known = 0;
    for (nfds_t i = 0; i < count; i++) {
        struct fs_table *table = polled_table(&fds[i]);
        known += table ? fs_table_slots(table) : polls_hidden(&fds[i]);
    }
    return known;
}

bool wait_polls(struct pollfd *fds, nfds_t count)
{
    return count_known(fds, count) != 0;
}

/* Add the other descriptors to poll for a listener: the slots, once one is claimed; until then the
 * bell, which rings for the first claim. */
static nfds_t add_others(struct pollfd *all, struct fs_table *table, bool claimed)
{
    if (!claimed) {
        *all = (struct pollfd){.fd = fs_table_bell(table), .events = POLLIN};
        return 1;
    }
    sigset_t saved;
    state_lock(&saved);
    fs_table_reap(table); /* else connections continue to arrive at slots of dead threads */
    state_unlock(&saved);
    for (uint32_t s = 0; s < fs_table_slots(table); s++)
        all[s] = (struct pollfd){.fd = fs_table_fd(table, (int)s), .events = POLLIN};
    return fs_table_slots(table);
}

/* Poll once. An event of a slot is reported for its listener. 0, before the time is over: poll
 * again. */
static int poll_all(struct pollfd *fds, nfds_t count, struct pollfd *all, nfds_t room,
                    const struct timespec *left, const sigset_t *mask)
{
    static const struct timespec at_once = {0};
    nfds_t total = count;
    bool any = false, hidden = false;
    struct others {
        nfds_t owner, first, end;
    } others[8]; /* of listeners; for any more, slots are not polled */
    int several = 0;
    for (nfds_t i = 0; i < count; i++) {
        struct fs_table *table = polled_table(&fds[i]);
        all[i] = fds[i];
        if (polls_hidden(&fds[i])) {
            all[i].fd = -1;
            hidden = true;
        }
        if (!table || several == sizeof others / sizeof *others ||
            total + fs_table_slots(table) > room)
            continue;
        bool claimed = fs_table_claimed(table);
        nfds_t added = add_others(all + total, table, claimed);
        if (claimed)
            others[several++] = (struct others){i, total, total + added};
        any = any || claimed;
        total += added;
    }
    const struct timespec *time = any && (!left || left->tv_sec >= slice.tv_sec) ? &slice : left;
    int ready = real_ppoll(all, total, hidden ? &at_once : time, mask);
    if (ready < 0 || (ready == 0 && !hidden))
        return ready;
    for (int o = 0; o < several; o++)
        for (nfds_t s = others[o].first; s < others[o].end; s++)
            if (all[s].revents & POLLIN)
                all[others[o].owner].revents |= fds[others[o].owner].events & (POLLIN | POLLRDNORM);
    ready = 0;
    for (nfds_t i = 0; i < count; i++) {
        fds[i].revents = polls_hidden(&fds[i]) ? POLLNVAL : all[i].revents;
        ready += fds[i].revents != 0;
    }
    return ready;
}

int shim_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
               const sigset_t *mask)
{
    nfds_t known = count_known(fds, count);
    struct pollfd *all = known ? malloc((count + known) * sizeof *all) : NULL;
    if (!all)
        return real_ppoll(fds, count, timeout, mask);
    struct timespec deadline, left;
    if (timeout)
        wait_deadline(timeout, &deadline);
    int ready;
    do {
        if (timeout)
            wait_left(&deadline, &left);
        ready = poll_all(fds, count, all, count + known, timeout ? &left : NULL, mask);
    } while (ready == 0 && (!timeout || left.tv_sec || left.tv_nsec));
    int error = errno;
    free(all);
    errno = error;
    for (nfds_t i = 0; ready == 0 && i < count; i++)
        fds[i].revents = 0;
    return ready;
}

/* ---- select(2) ---- */

static short asked(int fd, const fd_set *read, const fd_set *write, const fd_set *except)
{
    return (short)((read && FD_ISSET(fd, read) ? POLLIN : 0) |
                   (write && FD_ISSET(fd, write) ? POLLOUT : 0) |
                   (except && FD_ISSET(fd, except) ? POLLPRI : 0));
}

bool wait_selects(int count, const fd_set *read, const fd_set *write, const fd_set *except)
{
    for (int fd = 0; fd < count; fd++) {
        enum fd_kind kind = fdtable_kind(fd);
        if ((kind == FD_LISTENER && read && FD_ISSET(fd, read)) ||
            (kind == FD_HIDDEN && asked(fd, read, write, except)))
            return true;
    }
    return false;
}

int shim_pselect(int count, fd_set *read, fd_set *write, fd_set *except,
                 const struct timespec *timeout, const sigset_t *mask)
{
    /* Events of poll(2), as select(2) reports them: fs/select.c, POLLIN_SET and the like. */
    const short in = POLLIN | POLLHUP | POLLERR, out = POLLOUT | POLLERR;
    struct pollfd *fds = calloc((size_t)count, sizeof *fds);
    nfds_t used = 0;
    if (!fds)
        return real_pselect(count, read, write, except, timeout, mask);
    for (int fd = 0; fd < count; fd++) {
        short events = asked(fd, read, write, except);
        if (events)
            fds[used++] = (struct pollfd){.fd = fd, .events = events};
    }
    int ready = shim_ppoll(fds, used, timeout, mask);
    for (nfds_t i = 0; ready >= 0 && i < used; i++)
        if (fds[i].revents & POLLNVAL) {
            errno = EBADF;
            ready = -1;
        }
    for (nfds_t i = 0, bits = 0; ready >= 0 && i < used; i++) {
        int fd = fds[i].fd;
        if (read && !(fds[i].events & POLLIN && fds[i].revents & in))
            FD_CLR(fd, read);
        if (write && !(fds[i].events & POLLOUT && fds[i].revents & out))
            FD_CLR(fd, write);
        if (except && !(fds[i].revents & POLLPRI))
            FD_CLR(fd, except);
        short left = asked(fd, read, write, except);
        bits += (left & POLLIN ? 1 : 0) + (left & POLLOUT ? 1 : 0) + (left & POLLPRI ? 1 : 0);
        ready = (int)bits;
    }
    int error = errno;
    free(fds);
    errno = error;
    return ready;
}

/* ---- accept(2) ---- */

bool wait_freezes(int fd, struct fs_table *table)
{
    int status = fs_table_frozen(table) ? O_NONBLOCK : real_fcntl(fd, F_GETFL);
    if (status < 0 || status & O_NONBLOCK)
        return true;
    sigset_t saved;
    state_lock(&saved);
    int rc = fs_table_freeze(table);
    state_unlock(&saved);
    return rc != -EBUSY;
}

static int accept_as_part(struct fs_part *part, struct sockaddr *address, socklen_t *length,
                          int flags)
{
    sigset_t saved;
    state_lock(&saved);
    int rc = fs_part_accept(part, address, length, flags);
    state_unlock(&saved);
    return rc;
}

int wait_accept(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    struct timeval bound = {0};
    socklen_t size = sizeof bound;
    struct timespec deadline, left;
    int status = real_fcntl(fd, F_GETFL);
    bool bounded = real_getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, &size) == 0 &&
                   (bound.tv_sec || bound.tv_usec);
    if (bounded)
        wait_deadline(&(struct timespec){bound.tv_sec, bound.tv_usec * 1000}, &deadline);
    for (;;) {
        struct listener *l = listener_of(fd); /* each time: it may be closed meanwhile */
        struct fs_table *table = table_of(fd);
        if (!table)
            return -EBADF;
        int slot = reports_slot(l);
        struct fs_part *part = reports_part(l);
        if (status >= 0 && status & O_NONBLOCK)
            return part ? accept_as_part(part, address, length, flags)
                        : fs_table_accept_any(table, slot, address, length, flags);
        for (uint32_t s = 0; s < fs_table_slots(table); s++) {
            int connection = fs_table_accept(table, slot, (int)s, address, length, flags);
            if (connection != -EAGAIN)
                return connection;
        }
        struct pollfd global = {.fd = fd, .events = POLLIN};
        if (real_poll(&global, 1, 0) > 0)
            return fs_table_accept(table, slot, FS_GLOBAL, address, length, flags);
        if (bounded)
            wait_left(&deadline, &left);
        int ready = shim_ppoll(&global, 1, bounded ? &left : NULL, NULL);
        if (ready <= 0)
            return ready < 0 ? -errno : -EAGAIN;
    }
}
