/* SPDX-License-Identifier: MIT
 *
 * The changes that make new connections go elsewhere: a slot becomes live or is no longer live; a
 * slot is steered away from while its owner is late; the steering changes.
 */
#include "clock.h"
#include "ledger.h"

#include <errno.h>

enum { AWAY_PAUSE = 50 * 1000000 }; /* ns, at least, between two slots that are steered away from */

/* ---- the live set ---- */

int fs_table_activate(struct fs_table *t, int slot, bool live)
{
    struct slot_record *s = table_slot(t, slot);
    if (!s)
        return -EINVAL;
    int rc = table_lock(t);
    if (rc)
        return rc;
    if (live && flag_read(&t->page->frozen))
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
    if (!s || t->hashed || flag_read(&s->away) || now - last < AWAY_PAUSE || table_lock(t))
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

/* ---- the steering ---- */

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

int fs_table_review(struct fs_table *t)
{
    int rc = table_lock(t);
    if (rc)
        return rc;
    const struct ledger *ledger = ledger_of(t);
    bool is_auto =
        (ledger ? (int32_t)ledger->wanted : atomic_load(&t->page->wanted)) == FS_STEER_AUTO;
    if (!t->shared && is_auto && table_steering(t) == FS_STEER_CPU)
        rc = table_review(t);
    table_unlock(t);
    if (rc > 0)
        table_ring(t); /* workers may be pinned because of the old steering */
    return rc;
}
