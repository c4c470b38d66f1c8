/* SPDX-License-Identifier: MIT
 *
 * Calls by which a program that tries all numbers finds the open descriptors: uWSGI asks each for
 * its name after an exec, others for its kind. A hidden descriptor looks closed to these calls, as
 * it does to those in interpose.c: close, dup, fcntl, getsockopt, setsockopt, listen, accept,
 * shutdown, poll, select and epoll_ctl. Left alone: /proc/self/fd, which shows all descriptors, and
 * calls that read, write or control, because a program uses them only on numbers that it was given.
 */
#include "fdtable.h"
#include "real.h"

#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int getsockname(int fd, struct sockaddr *restrict address, socklen_t *restrict length)
{
    return fdtable_hides(fd) ? -1 : real_getsockname(fd, address, length);
}

EXPORT int getpeername(int fd, struct sockaddr *restrict address, socklen_t *restrict length)
{
    return fdtable_hides(fd) ? -1 : real_getpeername(fd, address, length);
}

/* ---- fstat(2), by glibc's present names and by those before 2.33 ---- */

/* These have other names here, because old headers define the libc names as inline functions. */
EXPORT int look_fstat(int fd, struct stat *st) __asm__("fstat");
EXPORT int look_fstat64(int fd, struct stat *st) __asm__("fstat64");
EXPORT int look_fxstat(int version, int fd, struct stat *st) __asm__("__fxstat");
EXPORT int look_fxstat64(int version, int fd, struct stat *st) __asm__("__fxstat64");

int look_fstat(int fd, struct stat *st)
{
    return fdtable_hides(fd) ? -1 : real_fstat(fd, st);
}

int look_fstat64(int fd, struct stat *st)
{
    return fdtable_hides(fd) ? -1 : real_fstat64(fd, st);
}

int look_fxstat(int version, int fd, struct stat *st)
{
    return fdtable_hides(fd) ? -1 : real___fxstat(version, fd, st);
}

int look_fxstat64(int version, int fd, struct stat *st)
{
    return fdtable_hides(fd) ? -1 : real___fxstat64(version, fd, st);
}

/* ---- sendmsg(2) passes descriptors on: unix(7), SCM_RIGHTS ---- */

static bool passes_hidden(const struct msghdr *message)
{
    struct msghdr copy = *message; /* CMSG_NXTHDR takes no const */
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&copy); c; c = CMSG_NXTHDR(&copy, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
            continue;
        for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
            int fd;
            memcpy(&fd, (const char *)c + at, sizeof fd);
            if (fdtable_hides(fd))
                return true;
        }
    }
    return false;
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    bool hidden =
        fdtable_hides(fd) || (message && message->msg_controllen > 0 && passes_hidden(message));
    return hidden ? -1 : real_sendmsg(fd, message, flags);
}
