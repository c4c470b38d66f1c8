/* SPDX-License-Identifier: MIT
 *
 * Helpers for any socket, in one place.
 */
#include "socket.h"

#include <errno.h>
#include <string.h>
#include <time.h>

uint64_t fs_socket_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t length = sizeof cookie;
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) < 0 ? 0 : cookie;
}

int fs_socket_option(int fd, int level, int name)
{
    int value = 0;
    socklen_t length = sizeof value;
    return getsockopt(fd, level, name, &value, &length) < 0 ? -errno : value;
}

bool fs_is_refused(int rc)
{
    switch (-rc) {
    case ENOMEM:
    case ENOBUFS:
    case EMFILE:
    case ENFILE:
    case EBADF:
    case ENOTSOCK:
    case EADDRINUSE:
        return false;
    default:
        return rc < 0;
    }
}

bool fs_socket_listens(int fd)
{
    return fs_socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN) > 0;
}

ssize_t fs_receive_first(int fd, void *data, size_t size, int64_t *waited)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct timespec))];
    struct iovec part = {.iov_base = data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    *waited = -1;
    ssize_t got = recvmsg(fd, &message, 0);
    const struct cmsghdr *told = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (told && told->cmsg_level == SOL_SOCKET && told->cmsg_type == SCM_TIMESTAMPNS) {
        struct timespec came, now;
        memcpy(&came, CMSG_DATA(told), sizeof came);
        clock_gettime(CLOCK_REALTIME, &now);
        int64_t ns = (now.tv_sec - came.tv_sec) * INT64_C(1000000000) + now.tv_nsec - came.tv_nsec;
        *waited = ns > 0 ? ns : 0;
    }
    return got;
}

int fs_socket_attach(int fd, int option, const struct sock_filter *program, size_t length)
{
    struct sock_fprog fprog;
    memset(&fprog, 0, sizeof fprog); /* also its padding: valgrind looks at it */
    fprog.len = (unsigned short)length;
    fprog.filter = (struct sock_filter *)program;
    return setsockopt(fd, SOL_SOCKET, option, &fprog, sizeof fprog) < 0 ? -errno : 0;
}
