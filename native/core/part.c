/* SPDX-License-Identifier: MIT
 *
 * One thread's part in a listen table: its slot, the other sources that it may accept from, and the
 * descriptors that it has polled. It knows claims and the descriptors to poll; it does not know the
 * poller, nor the fate of a connection. compare.c says when a sibling's connection may be taken.
 *
 * A part accepts from these sources, in this order; the first row that fits decides:
 *
 *   its own slot      it has claimed it, or was given it      all connections
 *   (none)            never claimed: nothing is steered there, unless the kernel hashes
 *   an orphan         it has no owner, or the owner does
 *                     not wait there: not yet, or not now     all connections
 *   a sibling's       one of the next FS_SIBLINGS that live   as compare.c allows
 *   (none)            all other siblings'
 *   the global one    unless that is a slot itself            all connections
 *
 * Facts about waiting (fs/eventpoll.c), on which the order of things here relies. Exclusive waiters
 * of one socket are woken in the order in which they registered. A waiter that is not in epoll_wait
 * is passed over; so is one that was woken and has not run yet. So a slot becomes live only after
 * its owner waits on it, and siblings register on it only when it is live: an idle owner keeps its
 * own connections, and a sibling that is woken looks before it takes. When a slot changes hands,
 * siblings register anew, or they would stand before the new owner. They register for edges: one
 * wake-up per arrival, and none again for connections that they have left alone.
 */
#include "part.h"
#include "clock.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int fs_part_open(struct fs_part **out, struct fs_table *table, int slot, bool with_global,
                 const struct fs_poller *poller, void *context)
{
    if (table->read_only)
        return -EROFS;
    if (slot != FS_GLOBAL && !table_slot(table, slot))
        return -EINVAL;
    struct fs_part *p = calloc(1, sizeof *p + table->slots * sizeof *p->watched);
    if (!p)
        return -ENOMEM;
    p->table = table;
    p->poller = poller;
    p->context = context;
    p->slot = p->assigned = slot;
    p->with_global = with_global && (table->shared || !table->first_is_slot);
    p->pidfd = -1;
    p->generation = UINT64_MAX;
    p->record = &p->unseen;
    atomic_store(&p->record->open, FS_UNCOUNTED);
    int rc = table->bell < 0 ? 0 : poller->add(context, table->bell, FS_BELL, true);
    if (rc) {
        free(p);
        return rc;
    }
    *out = p;
    return 0;
}

/* ---- claims ---- */

static bool one_is_free(const struct fs_table *t)
{
    for (uint32_t i = 0; i < t->slots; i++)
        if (atomic_load(&t->page->slot[i].pid) == 0)
            return true;
    return false;
}

/* The only core that this thread may run on, or -1. The slot that it claims is then that core's. */
static int only_core(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0 || CPU_COUNT(&allowed) != 1)
        return -1;
    int cpu = 0;
    while (!CPU_ISSET(cpu, &allowed))
        cpu++;
    return cpu;
}

static void unwatch(struct fs_part *p, uint32_t slot)
{
    struct watched *w = &p->watched[slot];
    if (w->kind != NOT)
        p->poller->remove(p->context, p->table->fds[slot], (int)slot);
    p->left_alone -= w->looks > 0;
    *w = (struct watched){.kind = NOT};
}

static void claim(struct fs_part *p)
{
    struct page *page = p->table->page;
    bool first = p->generation == UINT64_MAX;
    if (p->assigned != FS_GLOBAL)
        return;
    if (p->slot != FS_GLOBAL && atomic_load(&page->slot[p->slot].pid) != getpid()) {
        unwatch(p, (uint32_t)p->slot); /* another process took it, thinking us dead */
        p->slot = FS_GLOBAL;
    }
    /* Dead owners' slots are free too, but finding out reads /proc for each. So look for them the
     * first time only; afterwards an owner's neighbour reports its death. */
    if (p->slot != FS_GLOBAL || p->refused || p->resting || p->table->shared ||
        !(first || one_is_free(p->table)))
        return;
    int slot = fs_table_claim(p->table, FS_ANY_SLOT, only_core());
    if (slot >= 0) {
        p->slot = slot;
        p->tid = fs_thread_id();
    }
}

static void release(struct fs_part *p)
{
    if (p->slot != p->assigned)
        table_release(p->table, p->slot, p->tid);
    p->slot = p->assigned;
}

/* The giver of a slot activates it, except a slot that we have put to rest. */
static bool may_activate(const struct fs_part *p)
{
    return p->slot != FS_GLOBAL && (p->assigned == FS_GLOBAL || p->was_live) && !p->parked &&
           !p->resting && atomic_load(&p->table->page->slot[p->slot].pid) == getpid();
}

int fs_part_activate(struct fs_part *p)
{
    if (!may_activate(p))
        return 0;
    p->was_live = false;
    return fs_table_activate(p->table, p->slot, true);
}

/* ---- sources ---- */

/* Step through all slots, from the one after ours on, so that each is watched by as many
 * threads. */
static uint32_t after_own(const struct fs_table *t, int slot, uint32_t step)
{
    uint32_t start = slot == FS_GLOBAL ? (uint32_t)getpid() : (uint32_t)slot + 1;
    return (start + step) % t->slots;
}

/* The kind of a slot, by the table at the head of this file. */
static enum kind kind_of(const struct fs_table *t, int own, uint32_t slot, uint32_t *siblings)
{
    const struct slot_record *s = &t->page->slot[slot];
    if ((int)slot == own)
        return OWN;
    if (atomic_load(&s->claims) == 0 && !t->hashed)
        return NOT;
    if (atomic_load(&s->pid) == 0 || !flag_read(&s->live))
        return ORPHAN;
    if (*siblings == 0)
        return NOT;
    --*siblings;
    return SIBLING;
}

uint32_t fs_table_sources(const struct fs_table *t, int slot, uint32_t siblings, int *out)
{
    uint32_t count = 0;
    int left[FS_SLOTS_MAX];
    uint32_t several = 0;
    if (!t->shared && slot != FS_GLOBAL)
        out[count++] = slot;
    for (uint32_t i = 0; i < t->slots && !t->shared; i++) {
        uint32_t other = after_own(t, slot, i);
        enum kind kind = kind_of(t, slot, other, &siblings);
        if (kind == ORPHAN)
            out[count++] = (int)other;
        else if (kind == SIBLING)
            left[several++] = (int)other;
    }
    for (uint32_t i = 0; i < several; i++)
        out[count++] = left[i];
    if (t->shared || !t->first_is_slot)
        out[count++] = FS_GLOBAL;
    return count;
}

uint32_t fs_part_sources(const struct fs_part *p, int *out)
{
    return fs_table_sources(p->table, p->slot, FS_SIBLINGS, out);
}

int fs_part_may_take(struct fs_part *p, int source, int most)
{
    if (source == FS_GLOBAL || source == p->slot)
        return most;
    if (!table_slot(p->table, source))
        return 0;
    struct watched *w = &p->watched[source];
    if (w->kind == ORPHAN)
        return most;
    return w->kind == SIBLING && part_compare(p, (uint32_t)source) ? 1 : 0;
}

/* ---- polling ---- */

static int watch(struct fs_part *p, uint32_t slot, enum kind kind)
{
    uint64_t epoch = kind == OWN ? 0 : atomic_load(&p->table->page->slot[slot].epoch);
    struct watched *w = &p->watched[slot];
    if (w->kind == kind && w->epoch == epoch)
        return 0;
    unwatch(p, slot);
    int rc = p->poller->add(p->context, p->table->fds[slot], (int)slot, kind == SIBLING);
    if (!rc)
        *w = (struct watched){.epoch = epoch, .kind = (uint8_t)kind};
    return rc;
}

static int watch_global(struct fs_part *p)
{
    if (!p->with_global || p->global_watched)
        return 0;
    int rc = p->poller->add(p->context, p->table->global, FS_GLOBAL, false);
    p->global_watched = !rc;
    return rc;
}

static void unwatch_all(struct fs_part *p)
{
    for (uint32_t i = 0; i < p->table->slots; i++)
        unwatch(p, i);
    if (p->global_watched)
        p->poller->remove(p->context, p->table->global, FS_GLOBAL);
    p->global_watched = false;
}

static void forget_neighbour(struct fs_part *p)
{
    if (p->pidfd >= 0) {
        p->poller->remove(p->context, p->pidfd, FS_NEIGHBOUR);
        close(p->pidfd);
    }
    p->pidfd = -1;
    p->neighbour = 0;
}

/* Notice the death of the next owner in the ring; another process notices ours. */
static void watch_neighbour(struct fs_part *p)
{
    const struct fs_table *t = p->table;
    pid_t pid = 0;
    for (uint32_t i = 0; i < t->slots && !t->shared && pid == 0; i++) {
        pid = atomic_load(&t->page->slot[after_own(t, p->slot, i)].pid);
        if (pid == getpid() || pid == p->undead)
            pid = 0;
    }
    if (pid == p->neighbour)
        return;
    forget_neighbour(p);
    if (pid == 0)
        return;
    int pidfd = table_place(t, (int)syscall(SYS_pidfd_open, pid, 0));
    if (pidfd < 0) {
        if (errno == ESRCH) {
            p->undead = pid;
            fs_table_reap(p->table);
        }
        return; /* no descriptors, or a seccomp filter: a claim or the next reap tells us */
    }
    if (p->poller->add(p->context, pidfd, FS_NEIGHBOUR, true)) {
        close(pidfd);
        return;
    }
    p->pidfd = pidfd;
    p->neighbour = pid;
}

int fs_part_sync(struct fs_part *p)
{
    struct fs_table *t = p->table;
    uint64_t generation = atomic_load(&t->page->generation);
    uint32_t siblings = FS_SIBLINGS;
    int failed = 0;
    claim(p);
    part_show(p);
    p->generation = generation;
    for (uint32_t i = 0; i < t->slots && !t->shared && !p->resting; i++) {
        uint32_t slot = after_own(t, p->slot, i);
        enum kind kind = kind_of(t, p->slot, slot, &siblings);
        int rc = 0;
        if (kind == NOT)
            unwatch(p, slot);
        else
            rc = watch(p, slot, kind);
        if (rc && kind == OWN && p->assigned == FS_GLOBAL) {
            p->refused = true; /* no memory, or max_user_watches: nothing may arrive there */
            release(p);
        } else if (rc && kind == OWN) {
            failed = rc;
        }
    }
    int rc = p->resting ? 0 : watch_global(p);
    watch_neighbour(p);
    atomic_store(&p->record->slot, p->slot);
    if (failed || rc)
        return failed ? failed : rc;
    return may_activate(p) && !flag_read(&t->page->frozen) &&
           !flag_read(&t->page->slot[p->slot].live);
}

bool fs_part_stale(const struct fs_part *p)
{
    return p->generation != atomic_load(&p->table->page->generation);
}

void fs_part_heed(struct fs_part *p, int source)
{
    if (source == FS_NEIGHBOUR && p->pidfd >= 0) {
        pid_t dead = p->undead = p->neighbour;
        forget_neighbour(p);
        fs_table_bury(p->table, dead);  /* steers away from it, and rings the bell */
        p->generation = UINT64_MAX - 1; /* sync again, even if another process buried it */
    }
}

void fs_part_park(struct fs_part *p)
{
    p->parked = true;
}

void fs_part_rest(struct fs_part *p)
{
    unwatch_all(p);
    /* Connections that wait or arrive there are the siblings' now. Our loop still turns, so we
     * would not look late to them. */
    if (p->slot != FS_GLOBAL && flag_read(&p->table->page->slot[p->slot].live) &&
        atomic_load(&p->table->page->slot[p->slot].pid) == getpid()) {
        p->was_live = true;
        fs_table_activate(p->table, p->slot, false);
    }
    p->resting = true;
    p->generation = UINT64_MAX - 1;
}

void fs_part_resume(struct fs_part *p)
{
    p->resting = false;
}

/* ---- the end ---- */

void fs_part_close(struct fs_part *p)
{
    unwatch_all(p);
    forget_neighbour(p);
    if (p->table->bell >= 0)
        p->poller->remove(p->context, p->table->bell, FS_BELL);
    part_hide(p);
    release(p);
}

void fs_part_forget(struct fs_part *p)
{
    unwatch_all(p);
    forget_neighbour(p);
    if (p->table->bell >= 0)
        p->poller->remove(p->context, p->table->bell, FS_BELL);
    p->record = &p->unseen;
    p->slot = p->assigned;
}

void fs_part_free(struct fs_part *p)
{
    free(p);
}

int fs_part_slot(const struct fs_part *p)
{
    return p->slot;
}

/* ---- connections ---- */

/* For an accept without a wake-up: our wake-ups and looks stay as they are. */
static bool may_take_unasked(struct fs_part *p, int source)
{
    if (source == FS_GLOBAL || source == p->slot || p->watched[source].kind != SIBLING)
        return true;
    return part_would_take(p, (uint32_t)source);
}

int fs_part_accept(struct fs_part *p, struct sockaddr *address, socklen_t *length, int flags)
{
    int sources[FS_SLOTS_MAX + 1], fd = -EAGAIN;
    uint32_t count = fs_part_sources(p, sources);
    for (uint32_t i = 0; i < count && fd == -EAGAIN; i++)
        if (may_take_unasked(p, sources[i]))
            fd = fs_table_accept(p->table, p->slot, sources[i], address, length, flags);
    return fd;
}

int fs_table_accept_any(struct fs_table *t, int slot, struct sockaddr *address, socklen_t *length,
                        int flags)
{
    int sources[FS_SLOTS_MAX + 1], fd = -EAGAIN;
    uint32_t count = fs_table_sources(t, slot, FS_SLOTS_MAX, sources);
    for (uint32_t i = 0; i < count && fd == -EAGAIN; i++)
        fd = fs_table_accept(t, slot, sources[i], address, length, flags);
    return fd;
}
