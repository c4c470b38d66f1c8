/* SPDX-License-Identifier: MIT
 *
 * What is asked of any socket, in one place.
 */
#include <errno.h>
#include <fastsocket/fs.h>

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

bool fs_socket_listens(int fd)
{
    return fs_socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN) > 0;
}
