/* SPDX-License-Identifier: MIT */
#include "calls.h"
#include "listener.h"
#include "real.h"
#include "reports.h"
#include "wait.h"

#include <errno.h>

/* ---- calls on all members ---- */

int shim_shutdown(int fd, int how)
{
    struct listener *l = listener_check(fd);
    struct fs_table *table = l ? atomic_load(&l->table) : NULL;
    /* inet_shutdown (net/ipv4/af_inet.c): only a shutdown of the receiving side ends a
     * listener, and it ends it completely. */
    if (!table || (how != SHUT_RD && how != SHUT_RDWR))
        return real_shutdown(fd, how);
    int rc = fs_table_shutdown(table);
    if (rc)
        errno = -rc;
    return rc ? -1 : 0;
}

int shim_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    struct listener *l = listener_check(fd);
    struct fs_table *table = l ? atomic_load(&l->table) : NULL;
    if (!table)
        return real_setsockopt(fd, level, name, value, length);
    if (level == SOL_SOCKET && name == SO_REUSEPORT && length >= sizeof(int)) {
        l->asked_reuseport = *(const int *)value != 0;
        return 0; /* it has to stay set */
    }
    int rc = real_setsockopt(fd, level, name, value, length);
    struct fs_table_info info;
    fs_table_read(table, &info);
    for (uint32_t i = 0; rc == 0 && i < info.slots; i++) {
        int error = errno;
        real_setsockopt(fs_table_fd(table, (int)i), level, name, value, length);
        errno = error;
    }
    return rc;
}

int shim_getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
    int rc = real_getsockopt(fd, level, name, value, length);
    struct listener *l = listener_of(fd);
    if (rc == 0 && l && level == SOL_SOCKET && name == SO_REUSEPORT && *length >= sizeof(int))
        *(int *)value = l->asked_reuseport;
    return rc;
}

/* ---- accept(2) ---- */

int shim_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    struct listener *l = listener_of(fd);
    struct fs_table *table = l ? atomic_load_explicit(&l->table, memory_order_acquire) : NULL;
    if (!table)
        return real_accept4(fd, address, length, flags);
    int rc;
    if (!fs_table_claimed(table) && wait_freezes(fd, table))
        /* As long as no slot is claimed, all connections arrive there, and the kernel may wait. */
        rc = fs_table_accept(table, FS_GLOBAL, FS_GLOBAL, address, length, flags);
    else if (!reports_accept(l, table, address, length, flags, &rc))
        rc = wait_accept(fd, address, length, flags);
    if (rc < 0) {
        errno = -rc;
        return -1;
    }
    return rc;
}
