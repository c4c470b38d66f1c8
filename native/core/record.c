/* SPDX-License-Identifier: MIT
 *
 * A part's record in the page: the values that it shows to its siblings, which compare.c reads.
 * Also its return to a slot that was steered away from.
 */
#include "clock.h"
#include "part.h"

#include <unistd.h>

static void fill(struct fs_part *p, struct part_record *r)
{
    atomic_store(&r->tid, fs_thread_id());
    atomic_store(&r->slot, p->slot);
    atomic_store(&r->open, atomic_load(&p->record->open));
    atomic_store(&r->busy, atomic_load(&p->record->busy));
    atomic_store(&r->turns, 1);
    atomic_store(&r->worked, 0);
    atomic_store(&r->began, clock_ns());
    atomic_store(&r->late, 0);
}

static bool is_in_use(const struct part_record *r, int32_t pid)
{
    return pid < 0 ? thread_runs(-(uint32_t)pid)
                   : process_alive(pid, atomic_load(&r->tid), atomic_load(&r->start));
}

/* Take a record that is not in use, or else the record of a dead thread. If there is none, siblings
 * know nothing of us. */
void part_show(struct fs_part *p)
{
    const struct fs_table *t = p->table;
    struct part_record *records = page_parts(&t->map);
    if (p->record != &p->unseen) {
        if (atomic_load(&p->record->pid) == getpid())
            return;
        p->record = &p->unseen; /* another process took us for dead, or wrote invalid data */
    }
    for (int dead = 0; dead < 2; dead++)
        for (uint32_t i = 0; i < t->map.parts; i++) {
            struct part_record *r = &records[i];
            int32_t pid = atomic_load(&r->pid);
            if (dead ? is_in_use(r, pid) : pid != 0)
                continue;
            /* A negative id: we are filling the record. */
            if (!atomic_compare_exchange_strong(&r->pid, &pid, -fs_thread_id()))
                continue;
            fill(p, r);
            atomic_store(&r->start, process_start(getpid(), fs_thread_id()));
            atomic_store(&r->pid, getpid());
            p->record = r;
            return;
        }
}

void part_hide(struct fs_part *p)
{
    if (p->record != &p->unseen && atomic_load(&p->record->pid) == getpid())
        atomic_store(&p->record->pid, 0);
    p->record = &p->unseen;
}

void fs_part_count(struct fs_part *p, int open)
{
    atomic_store_explicit(&p->record->open, open, memory_order_relaxed);
}

void fs_part_waited(struct fs_part *p, uint64_t ns)
{
    if (p->slot != FS_GLOBAL)
        fs_histogram_add(page_waits(&p->table->map, (uint32_t)p->slot), ns);
}

/* We are no longer late: let connections come back to our slot. */
static void come_back(struct fs_part *p)
{
    if (p->slot != FS_GLOBAL && flag_read(&p->table->page->slot[p->slot].away))
        table_steer_back(p->table, p->slot);
}

void fs_part_waits(struct fs_part *p)
{
    struct part_record *r = p->record;
    uint64_t since = atomic_load_explicit(&r->busy, memory_order_relaxed);
    if (since == 0)
        return;
    uint64_t worked = atomic_load_explicit(&r->worked, memory_order_relaxed);
    atomic_store_explicit(&r->worked, worked + clock_ns() - since, memory_order_relaxed);
    atomic_store_explicit(&r->busy, 0, memory_order_release);
    come_back(p); /* not later: perhaps nothing wakes us again */
}

void fs_part_runs(struct fs_part *p)
{
    struct part_record *r = p->record;
    if (atomic_load_explicit(&r->busy, memory_order_relaxed) == 0) {
        uint64_t turns = atomic_load_explicit(&r->turns, memory_order_relaxed);
        atomic_store_explicit(&r->busy, clock_ns(), memory_order_relaxed);
        atomic_store_explicit(&r->turns, turns + 1, memory_order_release);
    }
    come_back(p);
}
