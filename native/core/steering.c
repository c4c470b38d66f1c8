/* SPDX-License-Identifier: MIT
 *
 * Where new connections go, given who serves what: which slots are live, the steering in force, and
 * what makes it change. steer.c knows the programs.
 */
#include "clock.h"
#include "ledger.h"
#include "steer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
    REVIEW_ACCEPTS = 1024,    /* with so many, an even split is far from the bound */
    AWAY_PAUSE = 50 * 1000000 /* ns between two slots that are steered away from */
};

/* ---- the program ---- */

/* Members that connections are to go to. A global listener that was shut down has left the group,
 * and the last member has taken its number. `all`: those too that are steered away from. */
static size_t members(const struct fs_table *t, bool global_left, bool all,
                      struct steer_member *live)
{
    size_t count = 0;
    for (uint32_t i = 0; i < t->slots; i++) {
        const struct slot_record *s = &t->page->slot[i];
        if (!flag_read(&s->live) || (!all && flag_read(&s->away)) ||
            (global_left && t->fds[i] == t->global))
            continue;
        bool moved = global_left && i + 1 == t->slots;
        live[count++] = (struct steer_member){.member = moved ? 0 : t->first_member + i,
                                              .cpu = atomic_load(&s->cpu)};
    }
    return count;
}

static bool listens(int fd)
{
    int yes = 0;
    socklen_t len = sizeof yes;
    return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes;
}

static enum fs_steer steer_in_force(const struct fs_table *t)
{
    const struct ledger *ledger = ledger_of(t);
    if (ledger)
        return ledger->steer;
    return atomic_load(&t->page->steer) == FS_STEER_CPU ? FS_STEER_CPU : FS_STEER_SPREAD;
}

static void put_in_force(struct fs_table *t, enum fs_steer steer, const char *why)
{
    struct ledger *ledger = ledger_of(t);
    if (t->ledger && !ledger)
        return; /* the supervisor decides */
    if (ledger) {
        ledger->steer = steer;
        snprintf(ledger->why, sizeof ledger->why, "%s", why);
    }
    atomic_store(&t->page->steer, (int32_t)steer);
    page_say(t->page, why);
}

int table_steer(struct fs_table *t)
{
    struct page *page = t->page;
    if (t->shared || flag_read(&page->retired))
        return 0;
    /* A socket that does not listen would take the program too, for a group of its own. */
    int through = t->global;
    for (uint32_t i = 0; !listens(through) && i < t->made; i++)
        through = t->fds[i];
    if (!listens(through))
        return 0; /* all were shut down: nothing arrives any more */
    flag_write(&page->unsteered, true);
    struct sock_filter *program = malloc(STEER_PROGRAM_MAX(t->slots) * sizeof *program);
    struct steer_member *live = malloc((t->slots + 1) * sizeof *live);
    int rc = program && live ? 0 : -ENOMEM;
    if (!rc) {
        bool global_left = through != t->global;
        size_t count = members(t, global_left, false, live);
        if (count == 0)
            count = members(t, global_left, true, live);
        enum fs_steer steer = steer_in_force(t);
        rc = steer_attach(through, program, steer_program(program, steer, live, count));
        if (rc == -ENOMEM && steer == FS_STEER_CPU) {
            put_in_force(t, FS_STEER_SPREAD,
                         "the program for cpu steering does not fit net.core.optmem_max");
            rc = steer_attach(through, program,
                              steer_program(program, FS_STEER_SPREAD, live, count));
        }
    }
    free(live);
    free(program);
    if (!rc)
        flag_write(&page->unsteered, false);
    return rc;
}

/* ---- the mode ---- */

void table_choose_steering(struct fs_table *t, enum fs_steer wanted)
{
    struct page *page = t->page;
    struct ledger *ledger = ledger_of(t);
    char why[FS_WHY_MAX] = "asked for";
    enum fs_steer steer = wanted;
    if (wanted == FS_STEER_AUTO)
        steer = steer_choose((struct sockaddr *)&t->address, why);
    if (ledger)
        ledger->wanted = wanted;
    atomic_store(&page->wanted, (int32_t)wanted);
    put_in_force(t, steer, why);
    for (uint32_t i = 0; i < t->slots; i++)
        atomic_store(&page->slot[i].reviewed, atomic_load(&page->slot[i].arrived));
}

int fs_table_steer(struct fs_table *t, enum fs_steer wanted)
{
    if ((unsigned)wanted > FS_STEER_SPREAD)
        return -EINVAL;
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (!t->shared) {
        table_choose_steering(t, wanted);
        rc = table_steer(t);
    }
    table_unlock(t);
    return rc;
}

static int review_locked(struct fs_table *t)
{
    struct page *page = t->page;
    uint64_t total = 0, most = 0, live = 0;
    int core = -1, rc = 0;
    for (uint32_t i = 0; i < t->slots; i++) {
        struct slot_record *s = &page->slot[i];
        uint64_t since = atomic_load(&s->arrived) - atomic_load(&s->reviewed);
        live += flag_read(&s->live);
        total += since;
        if (since > most) {
            most = since;
            core = atomic_load(&s->cpu);
        }
    }
    if (total < REVIEW_ACCEPTS)
        return 0;
    if (live > 1 && most * live * 2 > total * 3) {
        char why[FS_WHY_MAX];
        snprintf(why, sizeof why, "core %d took %u of the last %u connections under cpu steering",
                 core, (unsigned)most, (unsigned)total);
        put_in_force(t, FS_STEER_SPREAD, why);
        rc = table_steer(t);
        rc = rc ? rc : 1;
    }
    for (uint32_t i = 0; i < t->slots; i++)
        atomic_store(&page->slot[i].reviewed, atomic_load(&page->slot[i].arrived));
    return rc;
}

int fs_table_review(struct fs_table *t)
{
    int rc = table_lock(t);
    if (rc)
        return rc;
    const struct ledger *ledger = ledger_of(t);
    bool is_auto =
        (ledger ? (int32_t)ledger->wanted : atomic_load(&t->page->wanted)) == FS_STEER_AUTO;
    if (!t->shared && is_auto && steer_in_force(t) == FS_STEER_CPU)
        rc = review_locked(t);
    table_unlock(t);
    return rc;
}

/* ---- the live set ---- */

int fs_table_activate(struct fs_table *t, int slot, bool live)
{
    struct slot_record *s = table_slot(t, slot);
    if (!s)
        return -EINVAL;
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (live && flag_read(&t->page->retired))
        live = false;
    bool back = flag_write(&s->away, false), changed = flag_write(&s->live, live);
    if (changed)
        slot_changed(t->page, s);
    if (changed || back)
        rc = table_steer(t);
    table_unlock(t);
    return rc;
}

static bool others_are_live(const struct fs_table *t, const struct slot_record *but)
{
    for (uint32_t i = 0; i < t->slots; i++) {
        const struct slot_record *s = &t->page->slot[i];
        if (s != but && flag_read(&s->live) && !flag_read(&s->away))
            return true;
    }
    return false;
}

bool table_steer_away(struct fs_table *t, int slot)
{
    bool done = false;
    struct slot_record *s = table_slot(t, slot);
    uint64_t last = atomic_load(&t->page->steered_away), now = clock_ns();
    if (!s || flag_read(&s->away) || now - last < AWAY_PAUSE || table_lock(t))
        return false;
    if (flag_read(&s->live) && others_are_live(t, s)) {
        atomic_store(&t->page->steered_away, now);
        flag_write(&s->away, true);
        table_steer(t);
        done = true;
    }
    table_unlock(t);
    return done;
}

void table_steer_back(struct fs_table *t, int slot)
{
    struct slot_record *s = table_slot(t, slot);
    if (!s || !flag_read(&s->away) || table_lock(t))
        return;
    if (flag_write(&s->away, false))
        table_steer(t);
    table_unlock(t);
}
