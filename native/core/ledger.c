/* SPDX-License-Identifier: MIT */
#include "ledger.h"
#include "clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PID_MOST = 4194304, /* PID_MAX_LIMIT, linux/threads.h */
    TRIES = 1024, /* tries to accept count while they last: a counter may go back by this much */
};

int ledger_open(struct fs_table *t)
{
    struct ledger *l = calloc(1, sizeof *l + t->slots * sizeof *l->slot);
    if (!l)
        return -ENOMEM;
    l->maker = getpid();
    t->ledger = l;
    return 0;
}

struct ledger *ledger_of(const struct fs_table *t)
{
    return t->ledger && t->ledger->maker == getpid() ? t->ledger : NULL;
}

/* Wait for a second in all. For ten seconds after a long wait, wait for 10 ms only: there are many
 * operations. */
bool ledger_lock(struct ledger *l, struct fs_table *t)
{
    uint64_t now = clock_ns();
    bool undone = page_lock_within(t->page, now < l->distrust ? 10 * NS_A_MS : 1000 * NS_A_MS) > 0;
    if (clock_ns() - now > 500 * NS_A_MS)
        l->distrust = clock_ns() + 10000 * NS_A_MS;
    return undone;
}

/* ---- whether the page is valid ---- */

static bool is_flag(const flag *f)
{
    uint32_t value = atomic_load(f);
    return value == 0 || value == FLAG_SET;
}

/* Whether a counter may have gone on from `known`: no process takes 2^40 connections between two
 * looks. */
static bool goes_on(uint64_t known, uint64_t counter)
{
    return counter - known + TRIES < (UINT64_C(1) << 40);
}

/* Read a slot's record, each field once. False: no process of ours wrote these values. */
static bool entry_read(struct entry *now, const struct entry *known, const struct slot_record *s)
{
    bool sense = is_flag(&s->live) && is_flag(&s->away) &&
                 atomic_load(&s->cookie) == known->cookie && atomic_load(&s->fd) == known->fd &&
                 atomic_load(&s->cpu) == known->cpu;
    *now = (struct entry){
        .pid = atomic_load(&s->pid),
        .tid = atomic_load(&s->tid),
        .start = atomic_load(&s->start),
        .live = flag_read(&s->live),
        .claims = atomic_load(&s->claims),
        .own = atomic_load(&s->own),
        .stolen = atomic_load(&s->stolen),
        .orphan = atomic_load(&s->orphan),
        .global = atomic_load(&s->global),
        .arrived = atomic_load(&s->arrived),
        .helped = atomic_load(&s->helped),
        .cookie = known->cookie,
        .fd = known->fd,
        .cpu = known->cpu,
    };
    return sense && now->pid >= 0 && now->pid <= PID_MOST && now->tid >= 0 &&
           now->tid <= PID_MOST && now->claims >= known->claims &&
           goes_on(known->claims, now->claims) && goes_on(known->own, now->own) &&
           goes_on(known->stolen, now->stolen) && goes_on(known->orphan, now->orphan) &&
           goes_on(known->global, now->global) && goes_on(known->arrived, now->arrived) &&
           goes_on(known->helped, now->helped);
}

void ledger_begin(struct ledger *l, const struct fs_table *t)
{
    for (uint32_t i = 0; i < t->slots; i++) {
        const struct slot_record *s = &t->page->slot[i];
        l->slot[i] = (struct entry){.cookie = atomic_load(&s->cookie),
                                    .fd = atomic_load(&s->fd),
                                    .cpu = atomic_load(&s->cpu)};
    }
    ledger_read(l, t);
}

void ledger_read(struct ledger *l, const struct fs_table *t)
{
    uint64_t others = atomic_load(&t->page->others);
    if (goes_on(l->others, others))
        l->others = others;
    for (uint32_t i = 0; i < t->slots; i++) {
        struct entry now;
        if (entry_read(&now, &l->slot[i], &t->page->slot[i]))
            l->slot[i] = now;
    }
}

static bool page_makes_sense(const struct ledger *l, const struct fs_table *t)
{
    const struct page *page = t->page;
    struct sockaddr_storage address;
    if (!page_head_is(page, t->map.slots, t->map.parts) || flag_read(&page->shared) != t->shared ||
        flag_read(&page->first_is_slot) != t->first_is_slot || !is_flag(&page->unsteered) ||
        flag_read(&page->frozen) || flag_read(&page->stopping) != l->stopping ||
        atomic_load(&page->steer) != (int32_t)l->steer || atomic_load(&page->strangers) != 0 ||
        atomic_load(&page->cookie) != t->cookie || atomic_load(&page->bell) != t->bell ||
        page_read_address(page, &address) != t->address_len ||
        memcmp(&address, &t->address, t->address_len) != 0 ||
        !goes_on(l->others, atomic_load(&page->others)) ||
        atomic_load(&page->wanted) != (int32_t)l->wanted)
        return false;
    for (uint32_t i = 0; i < t->slots; i++)
        if (!entry_read(&(struct entry){0}, &l->slot[i], &page->slot[i]))
            return false;
    return true;
}

/* ---- restoring an invalid page ---- */

static void restore_slot(struct page *page, struct slot_record *s, const struct entry *known)
{
    slot_clear(page, s);
    atomic_store(&s->tid, known->tid);
    atomic_store(&s->start, known->start);
    atomic_store(&s->cpu, known->cpu);
    flag_write(&s->away, false);
    /* At least once: a connection that may have strayed there meanwhile is looked after like any
     * orphan. */
    atomic_store(&s->claims, known->claims ? known->claims : 1);
    atomic_store(&s->own, known->own);
    atomic_store(&s->stolen, known->stolen);
    atomic_store(&s->orphan, known->orphan);
    atomic_store(&s->global, known->global);
    atomic_store(&s->arrived, known->arrived);
    atomic_store(&s->helped, known->helped);
    atomic_store(&s->reviewed, known->arrived);
    atomic_store(&s->cookie, known->cookie);
    atomic_store(&s->fd, known->fd);
    if (known->pid) {
        slot_give(page, s, known->pid, known->tid, known->start);
        flag_write(&s->live, known->live);
    }
}

bool ledger_restore(struct ledger *l, struct fs_table *t)
{
    struct page *page = t->page;
    if (page_makes_sense(l, t))
        return false;
    l->restored++;
    page_head(page, t->map.slots, t->map.parts);
    flag_write(&page->shared, t->shared);
    flag_write(&page->first_is_slot, t->first_is_slot);
    flag_write(&page->frozen, false);
    flag_write(&page->stopping, l->stopping);
    flag_write(&page->unsteered, false);
    atomic_store(&page->strangers, 0);
    atomic_store(&page->wanted, (int32_t)l->wanted);
    atomic_store(&page->steer, (int32_t)l->steer);
    atomic_store(&page->others, l->others);
    atomic_store(&page->steered_away, 0);
    atomic_store(&page->cookie, t->cookie);
    atomic_store(&page->bell, t->bell);
    page_say(page, l->why);
    page_write_address(page, &t->address, t->address_len);
    for (uint32_t i = 0; i < t->slots; i++)
        restore_slot(page, &page->slot[i], &l->slot[i]);
    return true;
}
