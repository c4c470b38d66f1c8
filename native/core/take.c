/* SPDX-License-Identifier: MIT
 *
 * A listen table taken over from an unrelated process: the listener came by SCM_RIGHTS, or from a
 * common parent that had not listened yet, and its slots did not come along. If the slots were
 * left, their queues would end with the process that has them.
 *
 * Numbers in the page are those of the process that made the table. A socket is ours to use only if
 * its SO_COOKIE is the slot's.
 */
#include "table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Get descriptor `there` of another process, with the same number here if that is free. */
static int get(int pidfd, int there)
{
    int fd = (int)syscall(SYS_pidfd_getfd, pidfd, there, 0);
    if (fd < 0)
        return -errno;
    if (fd == there || fcntl(there, F_GETFD) >= 0)
        return fd;
    int same = dup3(fd, there, O_CLOEXEC);
    if (same < 0)
        return fd;
    close(fd);
    return same;
}

/* The numbers are from the page, which any process may have written, so each descriptor is checked
 * before it is used. A bell is a timerfd, by its name in proc(5). */
static bool is_bell(int fd)
{
    char path[32], name[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, name, sizeof name - 1);
    name[length < 0 ? 0 : length] = '\0';
    return strcmp(name, "anon_inode:[timerfd]") == 0;
}

/* A slot has the cookie that the page says, and listens on the same address as its global
 * listener. */
static bool is_slot_of(int global, int fd, uint64_t cookie)
{
    struct sockaddr_storage a = {0}, b = {0};
    socklen_t a_len = sizeof a, b_len = sizeof b;
    return fs_socket_cookie(fd) == cookie && fs_socket_listens(fd) &&
           getsockname(global, (struct sockaddr *)&a, &a_len) == 0 &&
           getsockname(fd, (struct sockaddr *)&b, &b_len) == 0 && a_len == b_len &&
           memcmp(&a, &b, a_len) == 0;
}

static int get_all(int pidfd, const struct mapping *map, int global, int *bell, int *slots)
{
    uint32_t got = 0;
    int rc = *bell = get(pidfd, atomic_load(&map->page->bell));
    if (rc >= 0 && !is_bell(rc))
        rc = -ENOENT;
    while (rc >= 0 && got < map->slots) {
        const struct slot_record *s = &map->page->slot[got];
        rc = get(pidfd, atomic_load(&s->fd));
        if (rc < 0)
            break;
        slots[got++] = rc;
        if (!is_slot_of(global, rc, atomic_load(&s->cookie)))
            rc = -ENOENT;
    }
    if (rc >= 0)
        return 0;
    while (got > 0)
        close(slots[--got]);
    if (*bell >= 0)
        close(*bell);
    return rc;
}

int fs_table_take(struct fs_table **out, pid_t pid, int memfd, int global)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return -errno;
    struct mapping map = {0};
    int bell = -1, *slots = NULL, own = get(pidfd, memfd);
    int rc = own < 0 ? own : page_attach(&map, own, false);
    if (!rc && (flag_read(&map.page->shared) || flag_read(&map.page->first_is_slot) ||
                atomic_load(&map.page->cookie) != fs_socket_cookie(global)))
        rc = -ENOENT;
    if (!rc && !(slots = malloc((map.slots + 1) * sizeof *slots)))
        rc = -ENOMEM;
    if (!rc)
        rc = get_all(pidfd, &map, global, &bell, slots);
    if (!rc && (rc = fs_table_adopt(out, own, bell, global, slots, map.slots))) {
        for (uint32_t i = 0; i < map.slots; i++)
            close(slots[i]);
        close(bell);
    }
    if (rc && own >= 0)
        close(own);
    free(slots);
    if (map.page)
        page_unmap(&map);
    close(pidfd);
    return rc;
}
