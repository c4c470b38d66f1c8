/* SPDX-License-Identifier: MIT
 *
 * The owners of slots. Every change is made under the page's lock and ends with the steering
 * program that fits it.
 */
#include "process.h"
#include "table.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static bool slot_is_mine(const struct slot_record *slot)
{
    return atomic_load(&slot->pid) == getpid() && atomic_load(&slot->tid) == fs_thread_id();
}

static int claim_locked(struct fs_table *t, int slot, int cpu)
{
    struct page *page = t->page;
    struct slot_record *s = table_slot(t, slot);
    if (!s && slot != FS_ANY_SLOT)
        return -EINVAL;
    if (flag_read(&page->frozen))
        return -EBUSY;
    if (s && slot_alive(s) && !slot_is_mine(s))
        return -EBUSY;
    for (uint32_t i = 0; !s && i < t->slots; i++) {
        bool fits = cpu < 0 || atomic_load(&page->slot[i].cpu) == cpu;
        if (fits && !slot_alive(&page->slot[i]))
            s = &page->slot[i];
    }
    /* No slot of that core is free: take any slot; it becomes that core's. */
    for (uint32_t i = 0; !s && i < t->slots; i++)
        if (!slot_alive(&page->slot[i]))
            s = &page->slot[i];
    if (!s)
        return -EBUSY;
    if (!slot_is_mine(s) || !slot_alive(s))
        slot_give(page, s, getpid(), fs_thread_id(), process_start(getpid(), fs_thread_id()));
    int changed = cpu >= 0 && atomic_exchange(&s->cpu, cpu) != cpu;
    int rc = changed && flag_read(&s->live) ? table_steer(t) : 0;
    return rc ? rc : (int)(s - page->slot);
}

int fs_table_claim(struct fs_table *t, int slot, int cpu)
{
    int rc = table_lock(t);
    if (rc)
        return rc;
    rc = claim_locked(t, slot, cpu);
    table_unlock(t);
    return rc;
}

int fs_table_hand_over(struct fs_table *t, int slot, pid_t pid)
{
    struct slot_record *s = table_slot(t, slot);
    if (!s)
        return -EINVAL;
    uint64_t start = process_start(pid, pid);
    if (!process_alive(pid, pid, start))
        return -ESRCH;
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (atomic_load(&s->pid) != pid || atomic_load(&s->tid) != pid ||
        atomic_load(&s->start) != start)
        slot_give(t->page, s, pid, pid, start);
    table_unlock(t);
    return 0;
}

int fs_table_release(struct fs_table *t, int slot)
{
    struct slot_record *s = table_slot(t, slot);
    if (!s)
        return -EINVAL;
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (slot_is_mine(s)) {
        slot_clear(t->page, s);
        rc = table_steer(t);
    } else {
        rc = -EPERM;
    }
    table_unlock(t);
    return rc;
}

/* Clear the records of dead threads: a slot's load is the load of living threads. */
static void clear_records(struct fs_table *t, pid_t pid)
{
    struct part_record *records = page_parts(&t->map);
    for (uint32_t i = 0; i < t->map.parts; i++) {
        struct part_record *r = &records[i];
        int32_t owner = atomic_load(&r->pid);
        if (owner > 0 &&
            (pid ? owner == pid
                 : !process_alive(owner, atomic_load(&r->tid), atomic_load(&r->start))))
            atomic_compare_exchange_strong(&r->pid, &owner, 0);
    }
}

/* Clear the claims of a process, or of all dead owners (pid 0). */
static int clear_claims(struct fs_table *t, pid_t pid)
{
    int rc = table_lock(t);
    if (rc)
        return rc;
    int cleared = 0;
    for (uint32_t i = 0; i < t->slots; i++) {
        struct slot_record *s = &t->page->slot[i];
        pid_t owner = atomic_load(&s->pid);
        if (owner != 0 && (pid ? owner == pid : !slot_alive(s))) {
            slot_clear(t->page, s);
            cleared++;
        }
    }
    clear_records(t, pid);
    if (cleared)
        rc = table_steer(t);
    table_unlock(t);
    return rc ? rc : cleared;
}

int fs_table_reap(struct fs_table *t)
{
    return clear_claims(t, 0);
}

int fs_table_bury(struct fs_table *t, pid_t pid)
{
    return pid > 0 ? clear_claims(t, pid) : -EINVAL;
}

int table_release(struct fs_table *t, int slot, pid_t tid)
{
    struct slot_record *s = table_slot(t, slot);
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (atomic_load(&s->pid) == getpid() && atomic_load(&s->tid) == tid) {
        slot_clear(t->page, s);
        rc = table_steer(t);
    }
    table_unlock(t);
    return rc;
}

int fs_table_freeze(struct fs_table *t)
{
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (fs_table_claimed(t)) {
        rc = -EBUSY;
    } else {
        flag_write(&t->page->frozen, true);
        page_say(t->page, "a process accepts connections with a blocking call");
    }
    table_unlock(t);
    return rc;
}

static int yield_locked(const struct mapping *map, int fd, bool stranger)
{
    struct page *page = map->page;
    uint32_t strangers = atomic_load(&page->strangers) + stranger;
    if (strangers > FS_SLOTS_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < map->slots && !flag_read(&page->frozen); i++) {
        /* Connections that may still be in a queue are orphans. */
        if (atomic_load(&page->slot[i].claims) == 0)
            atomic_store(&page->slot[i].claims, 1);
        slot_clear(page, &page->slot[i]);
    }
    flag_write(&page->frozen, true);
    page_say(page, stranger ? "another process listens on the address with a socket of its own"
                            : "another process has the listener, but no access to its slots");
    atomic_store(&page->strangers, strangers);
    return steer_past_slots(fd, map->slots, strangers);
}

int fs_table_yield(int page_fd, int fd, bool stranger)
{
    struct mapping map;
    int rc = page_attach(&map, page_fd, true);
    if (rc)
        return rc;
    if (flag_read(&map.page->shared) || flag_read(&map.page->first_is_slot)) {
        rc = -ENOENT;
    } else {
        page_lock(map.page);
        rc = yield_locked(&map, fd, stranger);
        page_unlock(map.page);
    }
    page_unmap(&map);
    return rc;
}

int fs_table_ungroup(struct fs_table *t)
{
    int none = 0;
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (setsockopt(t->global, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &none, sizeof none) < 0)
        rc = -errno;
    table_unlock(t);
    return rc;
}

int fs_table_relisten(struct fs_table *t, int backlog)
{
    int rc = table_lock(t);
    if (rc)
        return rc;
    /* Listen in this order, so that members that had left get their old numbers. */
    if (listen(t->global, backlog) < 0)
        rc = -errno;
    for (uint32_t i = t->own_from; !rc && i < t->made; i++)
        if (listen(t->fds[i], backlog) < 0)
            rc = -errno;
    if (!rc)
        rc = table_steer(t);
    table_unlock(t);
    return rc;
}
