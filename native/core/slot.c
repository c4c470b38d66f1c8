/* SPDX-License-Identifier: MIT
 *
 * One slot's record: its owner, and the change of owners.
 */
#include "process.h"
#include "table.h"

bool slot_alive(const struct slot_record *slot)
{
    /* Half of one owner and half of the next look dead: an owner is dead only if it was seen twice.
     * A slot whose owner changes all the time is written by a liar. */
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
