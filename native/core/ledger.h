/* SPDX-License-Identifier: MIT
 *
 * The supervisor's own account of a table that it alone decides about: what it decided, and what it
 * last read. Its workers can write the page, so nothing that it decided is read back from there,
 * and a page that makes no sense is restored from here.
 */
#ifndef FS_CORE_LEDGER_H
#define FS_CORE_LEDGER_H

#include "table.h"

struct ledger {
    pid_t maker;       /* in its forks all this is a memory only */
    uint64_t distrust; /* CLOCK_MONOTONIC, ns: until then somebody may be lying about the lock */
    enum fs_steer wanted, steer;
    char why[FS_WHY_MAX];
    bool stopping;
    uint32_t restored; /* times */
    uint64_t others;
    struct entry {
        int32_t pid, tid, cpu;
        bool live;
        uint64_t start, claims, own, stolen, orphan, global, arrived, helped;
        uint64_t cookie;
        int32_t fd;
    } slot[];
};

/* -ENOMEM */
int ledger_open(struct fs_table *t);

/* The ledger, in the process that decides; else NULL. */
struct ledger *ledger_of(const struct fs_table *t);

/* Take the page's lock. True: from somebody who had died with it, or would not give it. */
bool ledger_lock(struct ledger *l, struct fs_table *t);

/* When the table is made: what never changes, and what it says at first. */
void ledger_begin(struct ledger *l, const struct fs_table *t);
/* Under the lock, where it was just taken: restore the page if it makes no sense. True: it did not,
 * and no steering program fits. */
bool ledger_restore(struct ledger *l, struct fs_table *t);
/* Under the lock, where it is about to be released: remember what the page says, as far as it makes
 * sense. */
void ledger_read(struct ledger *l, const struct fs_table *t);

#endif
