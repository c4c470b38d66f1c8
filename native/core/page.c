/* SPDX-License-Identifier: MIT */
#include "page.h"
#include "process.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_MAGIC   0x66736f63u /* "fsoc" */
#define PAGE_VERSION 3u

static size_t page_size(uint32_t slots)
{
    return sizeof(struct page) + slots * sizeof(struct slot_record);
}

static int lock_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;
    int rc = pthread_mutexattr_init(&attr);
    if (rc)
        return -rc;
    rc = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    if (!rc)
        rc = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    if (!rc)
        rc = pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
    return -rc;
}

int page_create(struct page **out, int *memfd, uint32_t slots)
{
    int fd = memfd_create("fastsocket-table", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t size = page_size(slots);
    if (ftruncate(fd, (off_t)size) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    struct page *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int rc = page == MAP_FAILED ? -errno : lock_init(&page->lock);
    if (rc) {
        if (page != MAP_FAILED)
            munmap(page, size);
        close(fd);
        return rc;
    }
    page->slots = slots;
    page->version = PAGE_VERSION;
    page->magic = PAGE_MAGIC;
    *out = page;
    *memfd = fd;
    return 0;
}

int page_attach(struct page **out, int memfd, bool writable)
{
    struct stat st;
    if (fstat(memfd, &st) < 0)
        return -errno;
    if (st.st_size < (off_t)sizeof(struct page))
        return -EINVAL;
    int access = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    struct page *page = mmap(NULL, (size_t)st.st_size, access, MAP_SHARED, memfd, 0);
    if (page == MAP_FAILED)
        return -errno;
    if (page->magic != PAGE_MAGIC || page->version != PAGE_VERSION || page->slots > FS_SLOTS_MAX ||
        (size_t)st.st_size != page_size(page->slots)) {
        munmap(page, (size_t)st.st_size);
        return -EINVAL;
    }
    *out = page;
    return 0;
}

void page_unmap(struct page *page)
{
    munmap(page, page_size(page->slots));
}

int page_lock(struct page *page)
{
    int rc = pthread_mutex_lock(&page->lock);
    if (rc == EOWNERDEAD) {
        pthread_mutex_consistent(&page->lock);
        for (uint32_t i = 0; i < page->slots; i++)
            if (atomic_load(&page->slot[i].claims) > 0 && atomic_load(&page->slot[i].pid) == 0)
                slot_clear(page, &page->slot[i]);
        return 1;
    }
    return -rc;
}

void page_unlock(struct page *page)
{
    pthread_mutex_unlock(&page->lock);
}

bool slot_alive(const struct slot_record *slot)
{
    for (;;) {
        uint64_t claims = atomic_load(&slot->claims);
        pid_t pid = atomic_load(&slot->pid);
        if (pid == 0)
            return false;
        if (process_alive(pid, atomic_load(&slot->tid), atomic_load(&slot->start)))
            return true;
        /* Half of one owner and half of the next look dead: only the same owner twice is. */
        if (atomic_load(&slot->pid) == pid && atomic_load(&slot->claims) == claims)
            return false;
    }
}

void slot_changed(struct page *page, struct slot_record *slot)
{
    atomic_fetch_add(&slot->epoch, 1);
    atomic_fetch_add(&page->generation, 1);
}

void slot_give(struct page *page, struct slot_record *slot, pid_t pid, pid_t tid, uint64_t start)
{
    atomic_store(&slot->pid, 0);
    atomic_store(&slot->tid, tid);
    atomic_store(&slot->start, start);
    atomic_fetch_add(&slot->claims, 1);
    atomic_store(&slot->pid, pid);
    slot_changed(page, slot);
}

void slot_clear(struct page *page, struct slot_record *slot)
{
    atomic_store(&slot->live, false);
    atomic_store(&slot->pid, 0);
    slot_changed(page, slot);
}
