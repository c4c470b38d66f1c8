/* SPDX-License-Identifier: MIT */
#include "page.h"
#include "clock.h"
#include "process.h"
#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE_MAGIC 0x66736f63u /* "fsoc" */

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3; vm.memfd_noexec may refuse a memfd without it */
#endif

enum {
    SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,
    FEWEST_PARTS = 16,
};

static size_t parts_offset(uint32_t slots)
{
    return sizeof(struct page) + slots * sizeof(struct slot_record);
}

static size_t waits_offset(uint32_t slots, uint32_t parts)
{
    return parts_offset(slots) + parts * sizeof(struct part_record);
}

static size_t page_size(uint32_t slots, uint32_t parts)
{
    return waits_offset(slots, parts) + slots * sizeof(struct fs_histogram);
}

/* In a reload both generations have parts, and there may be more workers than slots. */
static uint32_t parts_for(uint32_t slots)
{
    return slots * 2 < FEWEST_PARTS ? FEWEST_PARTS : slots * 2;
}

struct part_record *page_parts(const struct mapping *m)
{
    return (struct part_record *)((char *)m->page + parts_offset(m->slots));
}

struct fs_histogram *page_waits(const struct mapping *m, uint32_t slot)
{
    return (struct fs_histogram *)((char *)m->page + waits_offset(m->slots, m->parts)) + slot;
}

/* ---- making and mapping ---- */

static int memfd_sealed(size_t size, const char **call)
{
    static const char name[] = "fastsocket-table";
    *call = "memfd_create";
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    bool sized = ftruncate(fd, (off_t)size) == 0;
    if (!sized || fcntl(fd, F_ADD_SEALS, SEALS) < 0) {
        int rc = -errno;
        *call = sized ? "F_ADD_SEALS" : "ftruncate";
        close(fd);
        return rc;
    }
    return fd;
}

void page_head(struct page *page, uint32_t slots, uint32_t parts)
{
    atomic_store(&page->slots, slots);
    atomic_store(&page->parts, parts);
    snprintf(page->release, sizeof page->release, "%s", FS_RELEASE);
    atomic_store(&page->layout, (uint32_t)page_size(slots, parts));
    atomic_store(&page->magic, PAGE_MAGIC);
}

bool page_head_is(const struct page *page, uint32_t slots, uint32_t parts)
{
    char release[sizeof page->release];
    memcpy(release, page->release, sizeof release);
    return atomic_load(&page->magic) == PAGE_MAGIC &&
           strncmp(release, FS_RELEASE, sizeof release) == 0 &&
           atomic_load(&page->layout) == page_size(slots, parts) &&
           atomic_load(&page->slots) == slots && atomic_load(&page->parts) == parts;
}

int page_create(struct mapping *out, int *memfd, uint32_t slots, const char **call)
{
    uint32_t parts = parts_for(slots);
    size_t size = page_size(slots, parts);
    int fd = memfd_sealed(size, call);
    bool refused = fs_is_refused(fd);
    if (fd < 0 && !refused)
        return fd;
    struct page *page = mmap(NULL, size, PROT_READ | PROT_WRITE,
                             MAP_SHARED | (refused ? MAP_ANONYMOUS : 0), refused ? -1 : fd, 0);
    if (page == MAP_FAILED) {
        int rc = -errno;
        if (!refused)
            close(fd);
        return rc;
    }
    page_head(page, slots, parts);
    *out = (struct mapping){.page = page, .size = size, .slots = slots, .parts = parts};
    *memfd = refused ? -1 : fd;
    return refused ? -fd : 0;
}

int page_attach(struct mapping *out, int memfd, bool writable)
{
    struct stat st;
    int seals = fcntl(memfd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS)
        return seals < 0 && errno != EINVAL ? -errno : -EINVAL;
    if (fstat(memfd, &st) < 0)
        return -errno;
    if (st.st_size < (off_t)sizeof(struct page))
        return -EINVAL;
    size_t size = (size_t)st.st_size;
    int access = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    struct page *page = mmap(NULL, size, access, MAP_SHARED, memfd, 0);
    if (page == MAP_FAILED)
        return -errno;
    uint32_t slots = atomic_load(&page->slots);
    uint32_t parts = slots <= FS_SLOTS_MAX ? parts_for(slots) : 0;
    if (parts == 0 || size != page_size(slots, parts) || !page_head_is(page, slots, parts)) {
        munmap(page, size);
        return -EINVAL;
    }
    *out = (struct mapping){.page = page, .size = size, .slots = slots, .parts = parts};
    return 0;
}

void page_unmap(const struct mapping *m)
{
    munmap(m->page, m->size);
}

/* ---- texts and addresses ---- */

void page_say(struct page *page, const char *why)
{
    size_t i = 0;
    for (; i + 1 < sizeof page->why && why[i]; i++)
        atomic_store_explicit(&page->why[i], why[i], memory_order_relaxed);
    atomic_store_explicit(&page->why[i], '\0', memory_order_relaxed);
}

void page_read_why(const struct page *page, char why[FS_WHY_MAX])
{
    size_t i = 0;
    for (; i + 1 < FS_WHY_MAX; i++) {
        char c = atomic_load_explicit(&page->why[i], memory_order_relaxed);
        if (c == '\0')
            break;
        why[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    why[i] = '\0';
}

void page_write_address(struct page *page, const struct sockaddr_storage *address, socklen_t length)
{
    const unsigned char *bytes = (const unsigned char *)address;
    for (size_t i = 0; i < length && i < sizeof page->address; i++)
        atomic_store_explicit(&page->address[i], bytes[i], memory_order_relaxed);
    atomic_store(&page->address_len, length);
}

socklen_t page_read_address(const struct page *page, struct sockaddr_storage *address)
{
    uint32_t length = atomic_load(&page->address_len);
    unsigned char *bytes = (unsigned char *)address;
    *address = (struct sockaddr_storage){0};
    length = length < sizeof *address ? length : sizeof *address;
    for (size_t i = 0; i < length; i++)
        bytes[i] = atomic_load_explicit(&page->address[i], memory_order_relaxed);
    return length;
}

/* Nanoseconds to wait for one holder, and for all holders together. */
#define PATIENCE_WITH_ONE UINT64_C(1000000000)
#define PATIENCE          UINT64_C(5000000000)

/* ---- the lock ----
 *
 * The lock is a word with the thread that has it, and not a pthread object: glibc follows pointers
 * that stand in a robust mutex, and a process that may write the page could point them anywhere. */

static void wait_for(struct page *page, uint32_t holder)
{
    /* A thread that dies with the lock wakes no waiter. */
    const struct timespec look_again = {.tv_nsec = 10000000};
    atomic_fetch_add(&page->waiters, 1);
    syscall(SYS_futex, &page->holder, FUTEX_WAIT, holder, &look_again, NULL, 0);
    atomic_fetch_sub(&page->waiters, 1);
}

static int lock(struct page *page, uint64_t one, uint64_t all)
{
    uint32_t me = (uint32_t)fs_thread_id(), tenure = atomic_load(&page->tenure);
    uint64_t began = clock_ns(), since = began;
    for (int tries = 0;; tries++) {
        uint32_t holder = 0, now = atomic_load(&page->tenure);
        bool taken = atomic_compare_exchange_strong(&page->holder, &holder, me), undone = false;
        if (now != tenure) {
            tenure = now;
            since = clock_ns();
        }
        if (!taken && (holder == me || (tries > 0 && !thread_runs(holder)) ||
                       clock_ns() - since > one || clock_ns() - began > all))
            taken = undone = atomic_compare_exchange_strong(&page->holder, &holder, me);
        if (taken) {
            atomic_fetch_add(&page->tenure, 1);
            return undone;
        }
        wait_for(page, holder);
    }
}

int page_lock(struct page *page)
{
    return lock(page, PATIENCE_WITH_ONE, PATIENCE);
}

int page_lock_within(struct page *page, uint64_t most)
{
    return lock(page, most, most);
}

bool page_unlock(struct page *page)
{
    uint32_t me = (uint32_t)fs_thread_id();
    bool ours = atomic_compare_exchange_strong(&page->holder, &me, 0);
    if (ours && atomic_load(&page->waiters))
        syscall(SYS_futex, &page->holder, FUTEX_WAKE, 1, NULL, NULL, 0);
    return ours;
}
