/* SPDX-License-Identifier: MIT */
#include "wait.h"
#include "pollset.h"
#include "real.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

/* Nobody tells these waiters of changed claims: they look for themselves, once a second. */
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

static struct fs_table *claimed_table(int fd)
{
    struct listener *l = listener_of(fd);
    return l && listener_claimed(l) ? atomic_load(&l->table) : NULL;
}

/* ---- poll(2) ---- */

static nfds_t count_slots(const struct pollfd *fds, nfds_t count)
{
    nfds_t slots = 0;
    for (nfds_t i = 0; i < count; i++) {
        struct fs_table *table = fds[i].events & POLLIN ? claimed_table(fds[i].fd) : NULL;
        slots += table ? fs_table_slots(table) : 0;
    }
    return slots;
}

bool wait_polls(struct pollfd *fds, nfds_t count)
{
    return count_slots(fds, count) != 0;
}

/* Once, with everything that a claimed listener's connections may be in; what is found there is
 * found in the listener. */
static int poll_all(struct pollfd *fds, nfds_t count, struct pollfd *all,
                    const struct timespec *timeout, const sigset_t *mask)
{
    nfds_t total = count;
    for (nfds_t i = 0; i < count; i++) {
        all[i] = fds[i];
        struct fs_table *table = fds[i].events & POLLIN ? claimed_table(fds[i].fd) : NULL;
        if (!table)
            continue;
        fs_table_reap(table); /* whose connections would arrive where nobody is */
        for (uint32_t s = 0; s < fs_table_slots(table); s++)
            all[total++] = (struct pollfd){.fd = fs_table_fd(table, (int)s), .events = POLLIN};
    }
    int ready = real_ppoll(all, total, timeout, mask);
    if (ready <= 0)
        return ready;
    nfds_t at = count;
    ready = 0;
    for (nfds_t i = 0; i < count; i++) {
        struct fs_table *table = fds[i].events & POLLIN ? claimed_table(fds[i].fd) : NULL;
        fds[i].revents = all[i].revents;
        for (uint32_t s = 0; table && s < fs_table_slots(table) && at < total; s++)
            fds[i].revents |= all[at++].revents & POLLIN;
        ready += fds[i].revents != 0;
    }
    return ready;
}

int shim_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
               const sigset_t *mask)
{
    nfds_t slots = count_slots(fds, count);
    if (slots == 0)
        return real_ppoll(fds, count, timeout, mask);
    struct pollfd *all = malloc((count + slots) * sizeof *all);
    if (!all)
        return real_ppoll(fds, count, timeout, mask);
    struct timespec deadline, left = slice;
    if (timeout)
        wait_deadline(timeout, &deadline);
    int ready;
    bool last = false;
    do {
        if (timeout) {
            wait_left(&deadline, &left);
            last = left.tv_sec < slice.tv_sec;
        }
        ready = poll_all(fds, count, all, last ? &left : &slice, mask);
    } while (ready == 0 && !last);
    int error = errno;
    free(all);
    errno = error;
    for (nfds_t i = 0; ready == 0 && i < count; i++)
        fds[i].revents = 0;
    return ready;
}

/* ---- select(2) ---- */

bool wait_selects(int count, const fd_set *read)
{
    for (int fd = 0; read && fd < count; fd++)
        if (FD_ISSET(fd, read) && claimed_table(fd))
            return true;
    return false;
}

static short asked(int fd, const fd_set *read, const fd_set *write, const fd_set *except)
{
    return (short)((read && FD_ISSET(fd, read) ? POLLIN : 0) |
                   (write && FD_ISSET(fd, write) ? POLLOUT : 0) |
                   (except && FD_ISSET(fd, except) ? POLLPRI : 0));
}

int shim_pselect(int count, fd_set *read, fd_set *write, fd_set *except,
                 const struct timespec *timeout, const sigset_t *mask)
{
    /* What poll(2) says, as select(2) says it: fs/select.c, POLLIN_SET and its kind. */
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

int wait_accept(int fd, struct fs_table *table, struct sockaddr *address, socklen_t *length,
                int flags)
{
    int slot = pollset_slot(listener_of(fd)), status = real_fcntl(fd, F_GETFL);
    if (status >= 0 && status & O_NONBLOCK)
        return fs_table_accept_any(table, slot, address, length, flags);
    for (;;) {
        for (uint32_t s = 0; s < fs_table_slots(table); s++) {
            int connection = fs_table_accept(table, slot, (int)s, address, length, flags);
            if (connection != -EAGAIN)
                return connection;
        }
        struct pollfd global = {.fd = fd, .events = POLLIN};
        if (real_poll(&global, 1, 0) > 0)
            return fs_table_accept(table, slot, FS_GLOBAL, address, length, flags);
        if (shim_ppoll(&global, 1, NULL, NULL) < 0)
            return -errno;
        if (listener_of(fd) == NULL || global.revents & POLLNVAL)
            return -EBADF; /* closed by another thread meanwhile */
    }
}
