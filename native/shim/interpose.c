/* SPDX-License-Identifier: MIT
 *
 * The libc names that a program calls. Each checks whether we know the descriptor, and goes
 * straight on to libc if not. Other files decide the rest. None of our files may call these names:
 * in all other files the plain names are libc's (real.h). With lld that is true in this file, too.
 * So a function that is called here has a name of ours, as `our_close`, with the libc name as an
 * alias.
 */
#include "calls.h"
#include "fdtable.h"
#include "listen.h"
#include "listener.h"
#include "log.h"
#include "pass.h"
#include "pollset.h"
#include "real.h"
#include "reports.h"
#include "state.h"
#include "wait.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* ---- descriptors ---- */

/* Forget `fd`: it is being closed. */
static void forget(int fd)
{
    int error = errno;
    sigset_t saved;
    state_lock(&saved);
    if (fdtable_kind(fd) == FD_LISTENER)
        listener_leave(fd);
    else if (fdtable_kind(fd) == FD_POLLSET)
        pollset_leave(fd);
    else if (fdtable_kind(fd) == FD_HIDDEN)
        listener_lose_hidden(fd);
    state_unlock(&saved);
    errno = error;
}

/* A new descriptor: if we know its number, the old one was closed behind our back. */
static int fresh(int fd)
{
    if (fd >= 0 && fdtable_kind(fd) != FD_PLAIN && state_mine())
        forget(fd);
    return fd;
}

static int close_known(int fd)
{
    if (state_mine()) {
        if (fdtable_hides(fd))
            return -1;
        forget(fd);
    }
    return real_close(fd);
}

static int our_close(int fd)
{
    return fdtable_kind(fd) == FD_PLAIN ? real_close(fd) : close_known(fd);
}

EXPORT int close(int fd) __attribute__((alias("our_close")));

/* `to` is now a duplicate of `fd`. */
static int duplicated(int fd, int to)
{
    if (to == STDERR_FILENO && state_mine())
        log_look_at_stderr();
    if (fdtable_kind(to) == FD_PLAIN && fdtable_kind(fd) == FD_PLAIN)
        return to;
    if (to < 0 || to == fd || !state_mine())
        return to;
    fresh(to);
    int error = errno;
    sigset_t saved;
    state_lock(&saved);
    if (fdtable_kind(fd) == FD_LISTENER)
        listener_duplicate(fd, to);
    else if (fdtable_kind(fd) == FD_POLLSET)
        pollset_duplicate(fd, to);
    state_unlock(&saved);
    errno = error;
    return to;
}

EXPORT int dup(int fd)
{
    return fdtable_hides(fd) ? -1 : duplicated(fd, real_dup(fd));
}

/* The program wants a number that we use for ourselves: give up the table that has it. */
static void make_way(int to)
{
    if (fdtable_kind(to) != FD_HIDDEN || !state_mine())
        return;
    sigset_t saved;
    state_lock(&saved);
    listener_dissolve_hidden(to);
    state_unlock(&saved);
}

EXPORT int dup2(int fd, int to)
{
    if (fdtable_hides(fd))
        return -1;
    if (fd != to)
        make_way(to);
    return duplicated(fd, real_dup2(fd, to));
}

EXPORT int dup3(int fd, int to, int flags)
{
    if (fdtable_hides(fd))
        return -1;
    if (fd != to)
        make_way(to);
    return duplicated(fd, real_dup3(fd, to, flags));
}

static int do_fcntl(int fd, int command, void *argument)
{
    if (fdtable_hides(fd))
        return -1;
    int rc = real_fcntl(fd, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? duplicated(fd, rc) : rc;
}

EXPORT int fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return do_fcntl(fd, command, argument);
}

EXPORT int fcntl64(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return do_fcntl(fd, command, argument);
}

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

/* Close the range except hidden descriptors, which are closed with their listener. */
static int our_close_range(unsigned first, unsigned last, int flags)
{
    if ((unsigned)flags & CLOSE_RANGE_CLOEXEC || first > last || !state_mine())
        return real_close_range(first, last, flags);
    for (int fd = (int)first - 1; (fd = fdtable_next((unsigned)fd + 1, last)) >= 0;)
        if (fdtable_kind(fd) != FD_HIDDEN)
            forget(fd);
    for (int fd; (fd = fdtable_next(first, last)) >= 0;) {
        if ((unsigned)fd > first && real_close_range(first, (unsigned)fd - 1, flags) < 0)
            return -1;
        if ((unsigned)fd == last)
            return 0;
        first = (unsigned)fd + 1;
    }
    return real_close_range(first, last, flags);
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
    __attribute__((alias("our_close_range")));

EXPORT void closefrom(int first)
{
    int error = errno;
    if (our_close_range(first < 0 ? 0 : (unsigned)first, ~0U, 0) < 0)
        real_closefrom(first);
    errno = error;
}

/* ---- sockets ---- */

EXPORT int socket(int family, int type, int protocol)
{
    return fresh(real_socket(family, type, protocol));
}

EXPORT int listen(int fd, int backlog)
{
    return fdtable_hides(fd) ? -1 : shim_listen(fd, backlog);
}

static int our_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    return fdtable_hides(fd) ? -1 : fresh(shim_accept4(fd, address, length, flags));
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
    __attribute__((alias("our_accept4")));

static int our_accept(int fd, struct sockaddr *address, socklen_t *length)
{
    if (fdtable_hides(fd))
        return -1;
    /* Not accept4 for a socket that is not ours: a sandbox may allow only accept. */
    return fresh(fdtable_kind(fd) == FD_LISTENER ? shim_accept4(fd, address, length, 0)
                                                 : real_accept(fd, address, length));
}

EXPORT int accept(int fd, struct sockaddr *address, socklen_t *length)
    __attribute__((alias("our_accept")));

EXPORT int shutdown(int fd, int how)
{
    if (fdtable_hides(fd))
        return -1;
    return fdtable_kind(fd) == FD_LISTENER ? shim_shutdown(fd, how) : real_shutdown(fd, how);
}

EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    if (fdtable_hides(fd))
        return -1;
    return fdtable_kind(fd) == FD_LISTENER ? shim_setsockopt(fd, level, name, value, length)
                                           : real_setsockopt(fd, level, name, value, length);
}

EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
    if (fdtable_hides(fd))
        return -1;
    return fdtable_kind(fd) == FD_LISTENER ? shim_getsockopt(fd, level, name, value, length)
                                           : real_getsockopt(fd, level, name, value, length);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t got = real_recvmsg(fd, message, flags);
    if (got >= 0 && message->msg_controllen > 0 && !(flags & MSG_PEEK))
        pass_message(message);
    return got;
}

/* ---- waiting ---- */

static int our_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    if (fdtable_hides(fd) || fdtable_hides(epfd))
        return -1;
    return fdtable_kind(fd) == FD_LISTENER ? shim_epoll_ctl(epfd, op, fd, event)
                                           : real_epoll_ctl(epfd, op, fd, event);
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
    __attribute__((alias("our_epoll_ctl")));

/* Milliseconds as epoll_wait(2) and poll(2) count them; NULL: wait for ever. */
static const struct timespec *milliseconds(int timeout, struct timespec *space)
{
    *space = (struct timespec){.tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * 1000000L};
    return timeout < 0 ? NULL : space;
}

static int rounded_up(const struct timespec *timeout)
{
    if (!timeout)
        return -1;
    return (int)(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000);
}

static int once_wait(const struct wait_call *call, struct epoll_event *events, int most,
                     const struct timespec *timeout)
{
    return real_epoll_wait(call->epfd, events, most, rounded_up(timeout));
}

static int once_pwait(const struct wait_call *call, struct epoll_event *events, int most,
                      const struct timespec *timeout)
{
    return real_epoll_pwait(call->epfd, events, most, rounded_up(timeout), call->mask);
}

static int once_pwait2(const struct wait_call *call, struct epoll_event *events, int most,
                       const struct timespec *timeout)
{
    return real_epoll_pwait2(call->epfd, events, most, timeout, call->mask);
}

static int our_epoll_wait(int epfd, struct epoll_event *events, int most, int timeout)
{
    if (fdtable_kind(epfd) != FD_POLLSET)
        return real_epoll_wait(epfd, events, most, timeout);
    struct timespec space;
    struct wait_call call = {.once = once_wait, .epfd = epfd};
    return shim_epoll_wait(&call, events, most, milliseconds(timeout, &space));
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int most, int timeout)
    __attribute__((alias("our_epoll_wait")));

static int our_epoll_pwait(int epfd, struct epoll_event *events, int most, int timeout,
                           const sigset_t *mask)
{
    if (fdtable_kind(epfd) != FD_POLLSET)
        return real_epoll_pwait(epfd, events, most, timeout, mask);
    struct timespec space;
    struct wait_call call = {.once = once_pwait, .epfd = epfd, .mask = mask};
    return shim_epoll_wait(&call, events, most, milliseconds(timeout, &space));
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int most, int timeout,
                       const sigset_t *mask) __attribute__((alias("our_epoll_pwait")));

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int most,
                        const struct timespec *timeout, const sigset_t *mask)
{
    struct wait_call call = {.once = once_pwait2, .epfd = epfd, .mask = mask};
    return shim_epoll_wait(&call, events, most, timeout);
}

static int our_poll(struct pollfd *fds, nfds_t count, int timeout)
{
    struct timespec space;
    return wait_polls(fds, count) ? shim_ppoll(fds, count, milliseconds(timeout, &space), NULL)
                                  : real_poll(fds, count, timeout);
}

EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout) __attribute__((alias("our_poll")));

static int our_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                     const sigset_t *mask)
{
    return shim_ppoll(fds, count, timeout, mask);
}

EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask) __attribute__((alias("our_ppoll")));

/* _FORTIFY_SOURCE replaces poll and ppoll by these. */
EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t size)
{
    if (size / sizeof *fds < count)
        __builtin_trap();
    return our_poll(fds, count, timeout);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                       const sigset_t *mask, size_t size)
{
    if (size / sizeof *fds < count)
        __builtin_trap();
    return our_ppoll(fds, count, timeout, mask);
}

EXPORT int select(int count, fd_set *read, fd_set *write, fd_set *except, struct timeval *timeout)
{
    if (!wait_selects(count, read, write, except))
        return real_select(count, read, write, except, timeout);
    struct timespec bound = {0}, deadline = {0};
    if (timeout) {
        bound = (struct timespec){timeout->tv_sec, timeout->tv_usec * 1000};
        wait_deadline(&bound, &deadline);
    }
    int ready = shim_pselect(count, read, write, except, timeout ? &bound : NULL, NULL);
    if (timeout) { /* select(2): Linux leaves the unslept time there */
        wait_left(&deadline, &bound);
        *timeout = (struct timeval){bound.tv_sec, bound.tv_nsec / 1000};
    }
    return ready;
}

EXPORT int pselect(int count, fd_set *read, fd_set *write, fd_set *except,
                   const struct timespec *timeout, const sigset_t *mask)
{
    return wait_selects(count, read, write, except)
               ? shim_pselect(count, read, write, except, timeout, mask)
               : real_pselect(count, read, write, except, timeout, mask);
}

/* ---- system calls by number ---- */

/* libuv closes by system call number, and older versions also wait and accept this way. If io_uring
 * is available, libuv may hand epoll_ctl to a ring, where we do not see it. If io_uring is missing,
 * libuv calls libc. */
EXPORT long syscall(long number, ...)
{
    va_list list;
    va_start(list, number);
    long a[6];
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    switch (number) {
    case SYS_close:
        return our_close((int)a[0]);
    case SYS_accept4:
        return our_accept4((int)a[0], (struct sockaddr *)a[1], (socklen_t *)a[2], (int)a[3]);
    case SYS_epoll_ctl:
        return our_epoll_ctl((int)a[0], (int)a[1], (int)a[2], (struct epoll_event *)a[3]);
    case SYS_epoll_pwait:
        if (fdtable_kind((int)a[0]) == FD_POLLSET)
            return our_epoll_pwait((int)a[0], (struct epoll_event *)a[1], (int)a[2], (int)a[3],
                                   (const sigset_t *)a[4]);
        break;
#ifdef SYS_accept
    case SYS_accept:
        return our_accept((int)a[0], (struct sockaddr *)a[1], (socklen_t *)a[2]);
#endif
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
        return our_epoll_wait((int)a[0], (struct epoll_event *)a[1], (int)a[2], (int)a[3]);
#endif
    case SYS_close_range:
        return our_close_range((unsigned)a[0], (unsigned)a[1], (int)a[2]);
    case SYS_io_uring_setup:
        if (!state.on)
            break;
        errno = ENOSYS;
        return -1;
    default:
        break;
    }
    return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
