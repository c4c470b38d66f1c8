/* SPDX-License-Identifier: MIT
 *
 * A program's calls on a listener that has a table: on all its members, or on any of them.
 */
#ifndef FS_SHIM_CALLS_H
#define FS_SHIM_CALLS_H

#include <sys/socket.h>

int shim_shutdown(int fd, int how);
int shim_setsockopt(int fd, int level, int name, const void *value, socklen_t length);
int shim_getsockopt(int fd, int level, int name, void *value, socklen_t *length);
int shim_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);

#endif
