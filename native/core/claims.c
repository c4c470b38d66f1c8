/* SPDX-License-Identifier: MIT
 *
 * Who serves a slot, and where new connections go because of it. Every change is made under the
 * page's lock and ends with the steering program that fits it.
 */
#include "process.h"
#include "steer.h"
#include "table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Accepts over which `cpu` steering is judged: enough that an even split stays far from the bound.
 */
#define REVIEW_ACCEPTS 1024

int table_steer(struct fs_table *t) {
    struct page *page = t->page;
    if (page->shared)
        return 0;
    struct sock_filter *program = malloc(STEER_PROGRAM_MAX(page->slots) * sizeof *program);
    struct steer_member *live = malloc((page->slots + 1) * sizeof *live);
    int rc = program && live ? 0 : -ENOMEM;
    if (!rc) {
        size_t count = 0;
        for (uint32_t i = 0; i < page->slots; i++)
            if (atomic_load(&page->slot[i].live))
                live[count++] = (struct steer_member){.member = t->first_member + i,
                                                      .cpu = atomic_load(&page->slot[i].cpu)};
        size_t length =
            steer_program(program, (enum fs_steer)atomic_load(&page->steer), live, count);
        rc = steer_attach(t->global, program, length);
        /* The program's own listener may be shut down; its siblings listen on. */
        for (uint32_t i = 0; rc == -EINVAL && i < page->slots; i++)
            if (t->fds[i] >= 0)
                rc = steer_attach(t->fds[i], program, length);
    }
    free(live);
    free(program);
    return rc;
}

static int table_lock(struct fs_table *t) {
    if (t->read_only)
        return -EROFS;
    int rc = page_lock(t->page);
    if (rc > 0) { /* the last holder died, perhaps between a change and its steering */
        rc = table_steer(t);
        if (rc)
            page_unlock(t->page);
    }
    return rc;
}

void table_choose_steering(struct fs_table *t, enum fs_steer wanted) {
    struct page *page = t->page;
    enum fs_steer steer = wanted;
    if (wanted == FS_STEER_AUTO)
        steer = steer_choose((struct sockaddr *)&page->address, page->why);
    else
        snprintf(page->why, sizeof page->why, "asked for");
    atomic_store(&page->wanted, wanted);
    atomic_store(&page->steer, steer);
    for (uint32_t i = 0; i < page->slots; i++)
        atomic_store(&page->slot[i].reviewed, atomic_load(&page->slot[i].arrived));
}

static bool slot_is_mine(const struct slot_record *slot) {
    return atomic_load(&slot->pid) == getpid() && atomic_load(&slot->tid) == gettid();
}

/* ---- claims ---- */

static int claim_locked(struct fs_table *t, int slot, int cpu) {
    struct page *page = t->page;
    struct slot_record *s = table_slot(t, slot);
    if (!s && slot != FS_ANY_SLOT)
        return -EINVAL;
    if (s && slot_alive(s) && !slot_is_mine(s))
        return -EBUSY;
    for (uint32_t i = 0; !s && i < page->slots; i++) {
        bool fits = cpu < 0 || atomic_load(&page->slot[i].cpu) == cpu;
        if (fits && !slot_alive(&page->slot[i]))
            s = &page->slot[i];
    }
    /* No slot of that core is free: take any, it becomes that core's. */
    for (uint32_t i = 0; !s && i < page->slots; i++)
        if (!slot_alive(&page->slot[i]))
            s = &page->slot[i];
    if (!s)
        return -EBUSY;
    if (!slot_is_mine(s) || !slot_alive(s))
        slot_give(page, s, getpid(), gettid(), process_start(getpid(), gettid()));
    int changed = cpu >= 0 && atomic_exchange(&s->cpu, cpu) != cpu;
    int rc = changed && atomic_load(&s->live) ? table_steer(t) : 0;
    return rc ? rc : (int)(s - page->slot);
}

int fs_table_claim(struct fs_table *t, int slot, int cpu) {
    int rc = table_lock(t);
    if (rc)
        return rc;
    rc = claim_locked(t, slot, cpu);
    page_unlock(t->page);
    return rc;
}

int fs_table_hand_over(struct fs_table *t, int slot, pid_t pid) {
    struct slot_record *s = table_slot(t, slot);
    if (!s)
        return -EINVAL;
    uint64_t start = process_start(pid, pid);
    if (!process_alive(pid, pid, start))
        return -ESRCH;
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (atomic_load(&s->pid) != pid || atomic_load(&s->start) != start)
        slot_give(t->page, s, pid, pid, start);
    page_unlock(t->page);
    return 0;
}

int fs_table_release(struct fs_table *t, int slot) {
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
    page_unlock(t->page);
    return rc;
}

int fs_table_reap(struct fs_table *t) {
    int rc = table_lock(t);
    if (rc)
        return rc;
    int reaped = 0;
    for (uint32_t i = 0; i < t->page->slots; i++) {
        struct slot_record *s = &t->page->slot[i];
        if (atomic_load(&s->pid) != 0 && !slot_alive(s)) {
            slot_clear(t->page, s);
            reaped++;
        }
    }
    if (reaped)
        rc = table_steer(t);
    page_unlock(t->page);
    return rc ? rc : reaped;
}

/* ---- steering ---- */

int fs_table_activate(struct fs_table *t, int slot, bool live) {
    struct slot_record *s = table_slot(t, slot);
    if (!s)
        return -EINVAL;
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (atomic_exchange(&s->live, live) != live) {
        atomic_fetch_add(&t->page->generation, 1);
        rc = table_steer(t);
    }
    page_unlock(t->page);
    return rc;
}

int fs_table_steer(struct fs_table *t, enum fs_steer wanted) {
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (!t->page->shared) {
        table_choose_steering(t, wanted);
        rc = table_steer(t);
    }
    page_unlock(t->page);
    return rc;
}

int fs_table_review(struct fs_table *t) {
    struct page *page = t->page;
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (!page->shared && atomic_load(&page->wanted) == FS_STEER_AUTO &&
        atomic_load(&page->steer) == FS_STEER_CPU) {
        uint64_t total = 0, most = 0, live = 0;
        int core = -1;
        for (uint32_t i = 0; i < page->slots; i++) {
            struct slot_record *s = &page->slot[i];
            uint64_t since = atomic_load(&s->arrived) - atomic_load(&s->reviewed);
            live += atomic_load(&s->live);
            total += since;
            if (since > most) {
                most = since;
                core = atomic_load(&s->cpu);
            }
        }
        if (total >= REVIEW_ACCEPTS) {
            if (live > 1 && most * live > total * 2) {
                atomic_store(&page->steer, FS_STEER_SPREAD);
                snprintf(page->why, sizeof page->why,
                         "core %d took %u of the last %u connections under cpu steering", core,
                         (unsigned)most, (unsigned)total);
                rc = table_steer(t);
                rc = rc ? rc : 1;
            }
            for (uint32_t i = 0; i < page->slots; i++)
                atomic_store(&page->slot[i].reviewed, atomic_load(&page->slot[i].arrived));
        }
    }
    page_unlock(page);
    return rc;
}
