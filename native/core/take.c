/* SPDX-License-Identifier: MIT
 *
 * A listen table taken over from an unrelated process: the listener came by SCM_RIGHTS, or from a
 * common parent that had not listened yet, and its slots did not come along. Were they left, their
 * queues would end with the process that has them.
 *
 * Numbers in the page are those of the process that made the table. A socket is ours to use only if
 * its SO_COOKIE is the slot's.
 */
#include "table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Descriptor `there` of another process, with the same number here if that is free. */
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

static int get_all(int pidfd, const struct page *page, int *bell, int *slots)
{
    uint32_t got = 0;
    int rc = get(pidfd, page->bell);
    *bell = rc;
    for (; rc >= 0 && got < page->slots; got++) {
        rc = slots[got] = get(pidfd, page->slot[got].fd);
        if (rc >= 0 && table_cookie(rc) != page->slot[got].cookie) {
            close(rc);
            rc = -ENOENT;
        }
    }
    if (rc >= 0)
        return 0;
    for (uint32_t i = 0; i + 1 < got; i++)
        close(slots[i]);
    if (*bell >= 0)
        close(*bell);
    return rc;
}

int fs_table_take(struct fs_table **out, pid_t pid, int memfd, int global)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return -errno;
    struct page *page = NULL;
    int bell = -1, *slots = NULL, own = get(pidfd, memfd);
    int rc = own < 0 ? own : page_attach(&page, own, false);
    if (!rc && (page->shared || page->first_is_slot || page->cookie != table_cookie(global)))
        rc = -ENOENT;
    if (!rc && !(slots = malloc(page->slots * sizeof *slots)))
        rc = -ENOMEM;
    if (!rc)
        rc = get_all(pidfd, page, &bell, slots);
    if (!rc && (rc = fs_table_adopt(out, own, bell, global, slots, page->slots))) {
        for (uint32_t i = 0; i < page->slots; i++)
            close(slots[i]);
        close(bell);
    }
    if (rc && own >= 0)
        close(own);
    free(slots);
    if (page)
        page_unmap(page);
    close(pidfd);
    return rc;
}
