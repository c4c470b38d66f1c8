/* SPDX-License-Identifier: MIT
 *
 * Every change of claims or of the live set is made under the lock of the table's page, and leaves
 * the steering program that fits it. If a holder died, or lied, the next holder completes the work
 * that is left undone. At the end, the processes that watch the bell are told.
 */
#include "ledger.h"

#include <errno.h>

/* A process that died with the lock may have left a slot that is live and has no owner. */
static void clear_half_owned(struct fs_table *t)
{
    for (uint32_t i = 0; i < t->slots; i++) {
        struct slot_record *s = &t->page->slot[i];
        if (atomic_load(&s->claims) > 0 && atomic_load(&s->pid) == 0)
            slot_clear(t->page, s);
    }
}

/* Without a supervisor, each process restores the values that never change, as it knows them.
 * Claims of liars look dead, and are cleared; their counters stay. */
static void restore_head(struct fs_table *t)
{
    struct page *page = t->page;
    page_head(page, t->map.slots, t->map.parts);
    flag_write(&page->shared, t->shared);
    flag_write(&page->first_is_slot, t->first_is_slot);
    if (t->hashed)
        atomic_store(&page->steer, FS_STEER_HASH);
    page_write_address(page, &t->address, t->address_len);
    atomic_store(&page->cookie, t->cookie);
    if (t->numbers)
        atomic_store(&page->bell, t->bell);
    for (uint32_t i = 0; i < t->made; i++) {
        atomic_store(&page->slot[i].cookie, fs_socket_cookie(t->fds[i]));
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
    /* The last holder died, or could not attach its program: complete its work first. Even if that
     * is refused, claims change. */
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
    /* We were taken for dead, and the program that we attached may be older than another
     * process's. */
    if (ledger) {
        table_steer(t); /* a liar may have the lock now, and would keep us waiting */
        return;
    }
    page_lock(page);
    table_steer(t);
    page_unlock(page);
}
