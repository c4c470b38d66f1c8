/* SPDX-License-Identifier: MIT
 *
 * Where new connections go, given the live slots and the wanted steering. All of it runs under the
 * lock, which live.c takes. steer.c knows the programs.
 */
#include "ledger.h"
#include "steer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { REVIEW_ACCEPTS = 1024 }; /* with this number, an even split is far from the bound */

/* ---- the program ---- */

/* The members that connections should go to. A global listener that was shut down has left the
 * group, and the last member has taken its number. `all`: also the members that are steered away
 * from. */
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

enum fs_steer table_steering(const struct fs_table *t)
{
    const struct ledger *ledger = ledger_of(t);
    if (ledger)
        return ledger->steer;
    if (t->hashed)
        return FS_STEER_HASH;
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
    if (t->shared || t->hashed || flag_read(&page->frozen))
        return 0;
    /* A socket that does not listen would take the program too, for a group of its own. */
    int through = t->global;
    for (uint32_t i = 0; !fs_socket_listens(through) && i < t->made; i++)
        through = t->fds[i];
    if (!fs_socket_listens(through))
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
        enum fs_steer steer = table_steering(t);
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

int steer_past_slots(int fd, uint32_t slots, uint32_t strangers)
{
    struct sock_filter program[STEER_PROGRAM_MAX(FS_SLOTS_MAX + 1)];
    struct steer_member members[FS_SLOTS_MAX + 1] = {0};
    for (uint32_t i = 0; i < strangers; i++)
        members[i + 1].member = slots + 1 + i;
    return steer_attach(fd, program,
                        steer_program(program, FS_STEER_SPREAD, members, strangers + 1));
}

/* ---- the mode ---- */

void table_choose_steering(struct fs_table *t, enum fs_steer wanted)
{
    struct page *page = t->page;
    struct ledger *ledger = ledger_of(t);
    char why[FS_WHY_MAX] = "requested";
    enum fs_steer steer = wanted;
    if (wanted == FS_STEER_AUTO)
        steer = steer_choose((struct sockaddr *)&t->address, why);
    if (ledger)
        ledger->wanted = wanted;
    atomic_store(&page->wanted, (int32_t)wanted);
    if (!t->hashed)
        put_in_force(t, steer, why);
    for (uint32_t i = 0; i < t->slots; i++)
        atomic_store(&page->slot[i].reviewed, atomic_load(&page->slot[i].arrived));
}

void table_leave_to_hash(struct fs_table *t, int rc)
{
    char why[FS_WHY_MAX];
    snprintf(why, sizeof why, "SO_ATTACH_REUSEPORT_CBPF is refused: %s", strerror(-rc));
    t->refused = true;
    put_in_force(t, FS_STEER_HASH, why);
    flag_write(&t->page->unsteered, false);
    t->hashed = true;
}

int table_review(struct fs_table *t)
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
