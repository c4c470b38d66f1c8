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
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Accepts over which `cpu` steering is judged: with so many, an even split is far from the bound.
 */
#define REVIEW_ACCEPTS 1024

/* Members that are live now. A global listener that was shut down has left the group, and the last
 * member has taken its number. */
static size_t live_members(const struct fs_table *t, bool global_left, struct steer_member *live)
{
    const struct page *page = t->page;
    size_t count = 0;
    for (uint32_t i = 0; i < page->slots; i++) {
        if (!atomic_load(&page->slot[i].live) || (global_left && t->fds[i] == t->global))
            continue;
        bool moved = global_left && i + 1 == page->slots;
        live[count++] = (struct steer_member){.member = moved ? 0 : t->first_member + i,
                                              .cpu = atomic_load(&page->slot[i].cpu)};
    }
    return count;
}

static bool listens(int fd)
{
    int yes = 0;
    socklen_t len = sizeof yes;
    return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes;
}

int table_steer(struct fs_table *t)
{
    struct page *page = t->page;
    if (page->shared || atomic_load(&page->retired))
        return 0;
    /* A socket that does not listen would take the program too, for a group of its own. */
    int through = t->global;
    for (uint32_t i = 0; !listens(through) && i < t->made; i++)
        through = t->fds[i];
    if (!listens(through))
        return 0; /* all were shut down: nothing arrives any more */
    atomic_store(&page->unsteered, true);
    struct sock_filter *program = malloc(STEER_PROGRAM_MAX(page->slots) * sizeof *program);
    struct steer_member *live = malloc((page->slots + 1) * sizeof *live);
    int rc = program && live ? 0 : -ENOMEM;
    if (!rc) {
        size_t count = live_members(t, through != t->global, live);
        enum fs_steer steer = (enum fs_steer)atomic_load(&page->steer);
        rc = steer_attach(through, program, steer_program(program, steer, live, count));
        if (rc == -ENOMEM && steer == FS_STEER_CPU) {
            atomic_store(&page->steer, FS_STEER_SPREAD);
            snprintf(page->why, sizeof page->why,
                     "the program for cpu steering does not fit net.core.optmem_max");
            rc = steer_attach(through, program,
                              steer_program(program, FS_STEER_SPREAD, live, count));
        }
    }
    free(live);
    free(program);
    if (!rc)
        atomic_store(&page->unsteered, false);
    return rc;
}

static int table_lock(struct fs_table *t)
{
    if (t->read_only)
        return -EROFS;
    int rc = page_lock(t->page);
    if (rc < 0)
        return rc;
    /* The last holder died, or could not attach its program: what it left is made good first. */
    rc = rc > 0 || atomic_load(&t->page->unsteered) ? table_steer(t) : 0;
    if (rc)
        page_unlock(t->page);
    return rc;
}

/* Release the lock, and tell every process if claims or the live set changed under it. */
static void table_unlock(struct fs_table *t)
{
    struct page *page = t->page;
    uint64_t generation = atomic_load(&page->generation);
    if (page->rung != generation) {
        page->rung = generation;
        eventfd_write(t->bell, 1);
    }
    page_unlock(page);
}

void table_choose_steering(struct fs_table *t, enum fs_steer wanted)
{
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
    if (atomic_load(&page->retired))
        return -EBUSY;
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

/* Clear the claims of a process, or of all the dead (pid 0). */
static int clear_claims(struct fs_table *t, pid_t pid)
{
    int rc = table_lock(t);
    if (rc)
        return rc;
    int cleared = 0;
    for (uint32_t i = 0; i < t->page->slots; i++) {
        struct slot_record *s = &t->page->slot[i];
        pid_t owner = atomic_load(&s->pid);
        if (owner != 0 && (pid ? owner == pid : !slot_alive(s))) {
            slot_clear(t->page, s);
            cleared++;
        }
    }
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
        atomic_store(&t->page->retired, true);
        snprintf(t->page->why, sizeof t->page->why, "somebody accepts by a call that blocks");
    }
    table_unlock(t);
    return rc;
}

int fs_table_retire(int page_fd, int fd, bool stranger)
{
    struct page *page;
    int rc = page_attach(&page, page_fd, true);
    if (rc)
        return rc;
    rc = page->shared || page->first_is_slot ? -ENOENT : page_lock(page);
    if (rc < 0) {
        page_unmap(page);
        return rc;
    }
    for (uint32_t i = 0; i < page->slots && !atomic_load(&page->retired); i++) {
        /* Whatever may still be in a queue is an orphan. */
        if (atomic_load(&page->slot[i].claims) == 0)
            atomic_store(&page->slot[i].claims, 1);
        slot_clear(page, &page->slot[i]);
    }
    atomic_store(&page->retired, true);
    snprintf(page->why, sizeof page->why,
             stranger ? "another process listens on the address with a socket of its own"
                      : "another process has the listener, but may not have its slots");
    uint32_t strangers = atomic_load(&page->strangers) + stranger;
    atomic_store(&page->strangers, strangers);
    /* The global listener, and who came after our slots: they stand behind them in the group. */
    struct sock_filter *program = malloc(STEER_PROGRAM_MAX(strangers + 1) * sizeof *program);
    struct steer_member *members = calloc(strangers + 1, sizeof *members);
    for (uint32_t i = 0; members && i < strangers; i++)
        members[i + 1].member = page->slots + 1 + i;
    if (!program || !members)
        rc = -ENOMEM;
    else
        rc = steer_attach(fd, program,
                          steer_program(program, FS_STEER_SPREAD, members, strangers + 1));
    free(members);
    free(program);
    page_unlock(page);
    page_unmap(page);
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

/* ---- steering ---- */

int fs_table_activate(struct fs_table *t, int slot, bool live)
{
    struct slot_record *s = table_slot(t, slot);
    if (!s)
        return -EINVAL;
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (live && atomic_load(&t->page->retired))
        live = false;
    if (atomic_exchange(&s->live, live) != live) {
        slot_changed(t->page, s);
        rc = table_steer(t);
    }
    table_unlock(t);
    return rc;
}

int fs_table_steer(struct fs_table *t, enum fs_steer wanted)
{
    if ((unsigned)wanted > FS_STEER_SPREAD)
        return -EINVAL;
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (!t->page->shared) {
        table_choose_steering(t, wanted);
        rc = table_steer(t);
    }
    table_unlock(t);
    return rc;
}

int fs_table_review(struct fs_table *t)
{
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
            if (live > 1 && most * live * 2 > total * 3) {
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
    table_unlock(t);
    return rc;
}
