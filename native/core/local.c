/* SPDX-License-Identifier: MIT
 *
 * One thread's part in a listen table: its slot, and what else it watches. It knows claims and
 * which descriptors are to be polled; it does not know who polls them.
 *
 * Facts about waiting (fs/eventpoll.c), which the order of things here leans on. Exclusive waiters
 * of one socket are woken in the order they registered, and one that is not in epoll_wait is passed
 * over. So a slot becomes live only after its owner waits on it, and siblings register on it only
 * when it is live: an idle owner keeps its own, a busy one is helped. When a slot changes hands,
 * siblings register anew, or they would stand before the new owner.
 */
#include "table.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Why a slot is watched. */
enum part { NOT, OWN, ORPHAN, SIBLING };

struct fs_local {
    struct fs_table *table;
    const struct fs_poller *poller;
    void *context;
    int slot;            /* claimed, or FS_GLOBAL, */
    pid_t tid;           /* ... by this thread */
    bool parked;         /* claimed to be counted only */
    bool refused;        /* our slot could not be polled: stay with the global listener */
    uint64_t generation; /* of the table, when it was last looked at */
    pid_t neighbour;     /* the next owner, whose end we notice, */
    int pidfd;           /* ... by this; -1: nobody */
    pid_t undead;        /* a neighbour whose end its slot does not show */
    struct watched {
        uint64_t epoch;
        uint8_t part;
    } watched[];
};

int fs_local_open(struct fs_local **out, struct fs_table *table, const struct fs_poller *poller,
                  void *context)
{
    if (table->read_only)
        return -EROFS;
    struct fs_local *l = calloc(1, sizeof *l + table->slots * sizeof *l->watched);
    if (!l)
        return -ENOMEM;
    l->table = table;
    l->poller = poller;
    l->context = context;
    l->slot = FS_GLOBAL;
    l->pidfd = -1;
    l->generation = UINT64_MAX;
    int rc = poller->add(context, table->bell, FS_BELL);
    if (rc) {
        free(l);
        return rc;
    }
    *out = l;
    return 0;
}

static void unwatch(struct fs_local *l, uint32_t slot)
{
    if (l->watched[slot].part != NOT)
        l->poller->remove(l->context, l->table->fds[slot], (int)slot);
    l->watched[slot].part = NOT;
}

static int watch(struct fs_local *l, uint32_t slot, enum part part)
{
    uint64_t epoch = part == OWN ? 0 : atomic_load(&l->table->page->slot[slot].epoch);
    struct watched *w = &l->watched[slot];
    if (w->part == part && w->epoch == epoch)
        return 0;
    unwatch(l, slot);
    int rc = l->poller->add(l->context, l->table->fds[slot], (int)slot);
    if (!rc)
        *w = (struct watched){.epoch = epoch, .part = (uint8_t)part};
    return rc;
}

static void forget_neighbour(struct fs_local *l)
{
    if (l->pidfd >= 0) {
        l->poller->remove(l->context, l->pidfd, FS_NEIGHBOUR);
        close(l->pidfd);
    }
    l->pidfd = -1;
    l->neighbour = 0;
}

/* ---- claims ---- */

static bool one_is_free(const struct fs_table *t)
{
    for (uint32_t i = 0; i < t->slots; i++)
        if (atomic_load(&t->page->slot[i].pid) == 0)
            return true;
    return false;
}

/* The core that this thread may only run on, or -1: its slot is then that core's. */
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

static void claim(struct fs_local *l)
{
    struct page *page = l->table->page;
    bool first = l->generation == UINT64_MAX;
    if (l->slot != FS_GLOBAL && atomic_load(&page->slot[l->slot].pid) != getpid()) {
        unwatch(l, (uint32_t)l->slot); /* somebody took it, thinking us dead */
        l->slot = FS_GLOBAL;
    }
    /* Dead owners' slots are free too, but finding out reads /proc for each: only the first time;
     * afterwards somebody's neighbour tells. */
    if (l->slot != FS_GLOBAL || l->refused || l->table->shared || !(first || one_is_free(l->table)))
        return;
    int slot = fs_table_claim(l->table, FS_ANY_SLOT, only_core());
    if (slot >= 0) {
        l->slot = slot;
        l->tid = gettid();
    }
}

static void release(struct fs_local *l)
{
    if (l->slot != FS_GLOBAL)
        table_release(l->table, l->slot, l->tid);
    l->slot = FS_GLOBAL;
}

/* ---- what is polled ---- */

static uint32_t after_own(const struct fs_local *l, uint32_t step)
{
    uint32_t slots = l->table->slots;
    uint32_t start = l->slot == FS_GLOBAL ? (uint32_t)getpid() : (uint32_t)l->slot + 1;
    return (start + step) % slots;
}

/* Notice the death of the next owner in the ring; somebody notices ours. */
static void watch_neighbour(struct fs_local *l)
{
    const struct page *page = l->table->page;
    pid_t pid = 0;
    for (uint32_t i = 0; i < l->table->slots && pid == 0; i++) {
        pid = atomic_load(&page->slot[after_own(l, i)].pid);
        if (pid == getpid() || pid == l->undead)
            pid = 0;
    }
    if (pid == l->neighbour)
        return;
    forget_neighbour(l);
    if (pid == 0)
        return;
    int pidfd = table_place(l->table, (int)syscall(SYS_pidfd_open, pid, 0));
    if (pidfd < 0) {
        if (errno == ESRCH) {
            l->undead = pid;
            fs_table_reap(l->table);
        }
        return; /* no descriptors, or a seccomp filter: a claim or the next reap tells us */
    }
    if (l->poller->add(l->context, pidfd, FS_NEIGHBOUR)) {
        close(pidfd);
        return;
    }
    l->pidfd = pidfd;
    l->neighbour = pid;
}

static enum part part_of(const struct fs_local *l, uint32_t slot, uint32_t *siblings)
{
    const struct slot_record *s = &l->table->page->slot[slot];
    if ((int)slot == l->slot)
        return OWN;
    /* Nobody serves it, or who has it does not wait there: not yet, or not now. */
    if (atomic_load(&s->pid) == 0 || !flag_read(&s->live))
        return atomic_load(&s->claims) > 0 ? ORPHAN : NOT;
    if (*siblings < FS_SIBLINGS) {
        ++*siblings;
        return SIBLING;
    }
    return NOT;
}

int fs_local_sync(struct fs_local *l)
{
    struct page *page = l->table->page;
    uint64_t generation = atomic_load(&page->generation);
    claim(l);
    l->generation = generation;
    uint32_t siblings = 0;
    for (uint32_t i = 0; i < l->table->slots && !l->table->shared; i++) {
        uint32_t slot = after_own(l, i);
        enum part part = part_of(l, slot, &siblings);
        if (part == NOT)
            unwatch(l, slot);
        else if (watch(l, slot, part) && part == OWN) {
            l->refused = true; /* no memory, or max_user_watches: nothing may arrive there */
            release(l);
        }
    }
    watch_neighbour(l);
    if (l->slot == FS_GLOBAL || l->parked || flag_read(&page->retired) ||
        flag_read(&page->slot[l->slot].live))
        return 0;
    return fs_table_activate(l->table, l->slot, true);
}

bool fs_local_stale(const struct fs_local *l)
{
    return l->generation != atomic_load(&l->table->page->generation);
}

void fs_local_heed(struct fs_local *l, int source)
{
    if (source == FS_NEIGHBOUR && l->pidfd >= 0) {
        pid_t dead = l->undead = l->neighbour;
        forget_neighbour(l);
        fs_table_bury(l->table, dead);  /* steers away from it, and tells everybody */
        l->generation = UINT64_MAX - 1; /* its slot may show nothing, if another did */
    }
}

void fs_local_park(struct fs_local *l)
{
    l->parked = true;
}

void fs_local_rest(struct fs_local *l)
{
    for (uint32_t i = 0; i < l->table->slots; i++)
        unwatch(l, i);
    l->generation = UINT64_MAX - 1;
}

void fs_local_close(struct fs_local *l)
{
    fs_local_rest(l);
    forget_neighbour(l);
    l->poller->remove(l->context, l->table->bell, FS_BELL);
    release(l);
}

void fs_local_forget(struct fs_local *l)
{
    forget_neighbour(l);
    l->slot = FS_GLOBAL;
}

void fs_local_free(struct fs_local *l)
{
    free(l);
}

int fs_local_slot(const struct fs_local *l)
{
    return l->slot;
}
