/* SPDX-License-Identifier: MIT
 *
 * Who serves a slot. Every change is made under the page's lock and ends with the steering program
 * that fits it.
 */
#include "ledger.h"
#include "process.h"
#include "steer.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* A process that died with the lock may have left a slot that is live and has no owner. */
static void clear_half_owned(struct fs_table *t)
{
    for (uint32_t i = 0; i < t->slots; i++) {
        struct slot_record *s = &t->page->slot[i];
        if (atomic_load(&s->claims) > 0 && atomic_load(&s->pid) == 0)
            slot_clear(t->page, s);
    }
}

/* Where nobody supervises: what never changes is what each of us knows it to be. Claims of liars
 * look dead, and are cleared; their counters stay. */
static void restore_head(struct fs_table *t)
{
    struct page *page = t->page;
    page_head(page, t->map.slots, t->map.parts);
    flag_write(&page->shared, t->shared);
    flag_write(&page->first_is_slot, t->first_is_slot);
    page_write_address(page, &t->address, t->address_len);
    atomic_store(&page->cookie, t->cookie);
    if (t->numbers)
        atomic_store(&page->bell, t->bell);
    for (uint32_t i = 0; i < t->made; i++) {
        atomic_store(&page->slot[i].cookie, table_cookie(t->fds[i]));
        if (t->numbers)
            atomic_store(&page->slot[i].fd, t->fds[i]);
    }
}

int table_lock(struct fs_table *t)
{
    if (t->read_only)
        return -EROFS;
    struct ledger *ledger = ledger_of(t);
    bool undone = ledger ? ledger_lock(ledger, t) : page_lock(t->page) > 0;
    if (undone)
        clear_half_owned(t);
    undone = flag_read(&t->page->unsteered) || undone;
    if (ledger)
        undone = ledger_restore(ledger, t) || undone;
    else if (!t->ledger && !page_head_is(t->page, t->map.slots, t->map.parts))
        restore_head(t);
    /* The last holder died, or could not attach its program: what it left is made good first. Where
     * that is refused, claims change all the same. */
    if (undone)
        table_steer(t);
    return 0;
}

void table_unlock(struct fs_table *t)
{
    struct page *page = t->page;
    struct ledger *ledger = ledger_of(t);
    uint64_t generation = atomic_load(&page->generation);
    if (ledger)
        ledger_read(ledger, t);
    if (atomic_exchange(&page->rung, generation) != generation)
        table_ring(t);
    if (page_unlock(page))
        return;
    /* We were taken for dead, and what we attached may be older than what somebody else did. */
    if (ledger) {
        table_steer(t); /* a liar may have it now, and would keep us waiting */
        return;
    }
    page_lock(page);
    table_steer(t);
    page_unlock(page);
}

int table_bell_open(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

void table_ring(struct fs_table *t)
{
    const struct itimerspec at_once = {.it_value = {.tv_nsec = 1}};
    timerfd_settime(t->bell, 0, &at_once, NULL);
}

/* ---- slots ---- */

bool slot_alive(const struct slot_record *slot)
{
    /* Half of one owner and half of the next look dead: only the same owner twice is. One that
     * changes all the time is written by a liar. */
    for (int tries = 0; tries < 100; tries++) {
        uint64_t claims = atomic_load(&slot->claims);
        pid_t pid = atomic_load(&slot->pid);
        if (pid == 0)
            return false;
        if (process_alive(pid, atomic_load(&slot->tid), atomic_load(&slot->start)))
            return true;
        if (atomic_load(&slot->pid) == pid && atomic_load(&slot->claims) == claims)
            return false;
    }
    return true;
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
    flag_write(&slot->live, false);
    flag_write(&slot->away, false);
    atomic_store(&slot->pid, 0);
    slot_changed(page, slot);
}

static bool slot_is_mine(const struct slot_record *slot)
{
    return atomic_load(&slot->pid) == getpid() && atomic_load(&slot->tid) == gettid();
}

/* ---- claims ---- */

static int claim_locked(struct fs_table *t, int slot, int cpu)
{
    struct page *page = t->page;
    struct slot_record *s = table_slot(t, slot);
    if (!s && slot != FS_ANY_SLOT)
        return -EINVAL;
    if (flag_read(&page->retired))
        return -EBUSY;
    if (s && slot_alive(s) && !slot_is_mine(s))
        return -EBUSY;
    for (uint32_t i = 0; !s && i < t->slots; i++) {
        bool fits = cpu < 0 || atomic_load(&page->slot[i].cpu) == cpu;
        if (fits && !slot_alive(&page->slot[i]))
            s = &page->slot[i];
    }
    /* No slot of that core is free: take any, it becomes that core's. */
    for (uint32_t i = 0; !s && i < t->slots; i++)
        if (!slot_alive(&page->slot[i]))
            s = &page->slot[i];
    if (!s)
        return -EBUSY;
    if (!slot_is_mine(s) || !slot_alive(s))
        slot_give(page, s, getpid(), gettid(), process_start(getpid(), gettid()));
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

/* What the dead had shown of themselves: a slot's load is that of the living. */
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

/* Clear the claims of a process, or of all the dead (pid 0). */
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
        flag_write(&t->page->retired, true);
        page_say(t->page, "somebody accepts by a call that blocks");
    }
    table_unlock(t);
    return rc;
}

static int retire_locked(const struct mapping *map, int fd, bool stranger)
{
    struct page *page = map->page;
    uint32_t strangers = atomic_load(&page->strangers) + stranger;
    if (strangers > FS_SLOTS_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < map->slots && !flag_read(&page->retired); i++) {
        /* Whatever may still be in a queue is an orphan. */
        if (atomic_load(&page->slot[i].claims) == 0)
            atomic_store(&page->slot[i].claims, 1);
        slot_clear(page, &page->slot[i]);
    }
    flag_write(&page->retired, true);
    page_say(page, stranger ? "another process listens on the address with a socket of its own"
                            : "another process has the listener, but may not have its slots");
    atomic_store(&page->strangers, strangers);
    /* The global listener, and who came after our slots: they stand behind them in the group. */
    struct sock_filter program[STEER_PROGRAM_MAX(FS_SLOTS_MAX + 1)];
    struct steer_member members[FS_SLOTS_MAX + 1] = {0};
    for (uint32_t i = 0; i < strangers; i++)
        members[i + 1].member = map->slots + 1 + i;
    return steer_attach(fd, program,
                        steer_program(program, FS_STEER_SPREAD, members, strangers + 1));
}

int fs_table_retire(int page_fd, int fd, bool stranger)
{
    struct mapping map;
    int rc = page_attach(&map, page_fd, true);
    if (rc)
        return rc;
    if (flag_read(&map.page->shared) || flag_read(&map.page->first_is_slot)) {
        rc = -ENOENT;
    } else {
        page_lock(map.page);
        rc = retire_locked(&map, fd, stranger);
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
    /* In this order, so that members that had left get their old numbers. */
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
