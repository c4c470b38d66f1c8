/* SPDX-License-Identifier: MIT
 *
 * Memory that a process makes for its forks. A fork keeps its part when the rest is unmapped: it
 * has no descriptor to map the rest again. A process that must only read maps the memory through a
 * descriptor that is open for reading only: then the kernel lets no process make the mapping
 * writable, mprotect(2).
 */
#include <errno.h>
#include <fastsocket/fs.h>
#include <sys/mman.h>

int fs_shared_map(void **out, size_t size, int fd, bool writable)
{
    int access = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *at = mmap(NULL, size, access, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
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
