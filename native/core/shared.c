/* SPDX-License-Identifier: MIT
 *
 * Memory that a process makes for its forks: who is to have which part of it is decided by taking
 * the rest away, for a fork has no descriptor to map it again.
 */
#include <errno.h>
#include <fastsocket/fs.h>
#include <sys/mman.h>

int fs_shared_map(void **out, size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return -errno;
    *out = at;
    return 0;
}

int fs_shared_keep(void *at, size_t size, size_t from, size_t length)
{
    char *all = at;
    if (from > 0 && munmap(all, from) < 0)
        return -errno;
    if (from + length < size && munmap(all + from + length, size - from - length) < 0)
        return -errno;
    return 0;
}

int fs_shared_read_only(void *at, size_t size)
{
    return mprotect(at, size, PROT_READ) < 0 ? -errno : 0;
}
