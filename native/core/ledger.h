/* SPDX-License-Identifier: MIT
 *
 * The supervisor's own account of a table that it alone decides about: its decisions, and the
 * values that it last read. Its workers can write the page, so the supervisor does not read its
 * decisions back from there, and restores an invalid page from the ledger.
 */
#ifndef FS_CORE_LEDGER_H
#define FS_CORE_LEDGER_H

#include "table.h"

struct ledger {
    pid_t maker;       /* the supervisor; in its forks the ledger is only a memory */
    uint64_t distrust; /* CLOCK_MONOTONIC, ns: until then a process may be lying about the lock */
    enum fs_steer wanted, steer;
    char why[FS_WHY_MAX];
    bool stopping;
    uint32_t restored; /* times that the page was restored */
    uint64_t others;
    struct entry {
        int32_t pid, tid, cpu;
        bool live;
        uint64_t start, claims, own, stolen, orphan, global, arrived, helped;
        uint64_t cookie;
        int32_t fd;
    } slot[];
};

/* Returns 0 or -ENOMEM. */
int ledger_open(struct fs_table *t);

/* The ledger in the process that decides; NULL in all others. */
struct ledger *ledger_of(const struct fs_table *t);

/* Take the page's lock. True: its holder had died with it, or did not give it up. */
bool ledger_lock(struct ledger *l, struct fs_table *t);

/* When the table is made: note the constant values of the page, and its first ones. */
void ledger_begin(struct ledger *l, const struct fs_table *t);
/* Under the lock, just after it was taken: restore the page if it is invalid. True: it was invalid,
 * and no steering program fits it. */
bool ledger_restore(struct ledger *l, struct fs_table *t);
/* Under the lock, just before it is released: remember the valid values of the page. */
void ledger_read(struct ledger *l, const struct fs_table *t);

#endif
