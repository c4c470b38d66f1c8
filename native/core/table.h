/* SPDX-License-Identifier: MIT
 *
 * A process's own view of a listen table: descriptors. What all processes share is in the page.
 */
#ifndef FS_CORE_TABLE_H
#define FS_CORE_TABLE_H

#include "page.h"

struct fs_table {
    struct page *page;
    int memfd;             /* of the page */
    int bell;              /* eventfd: rung for all processes when claims changed */
    _Atomic(int) global;   /* the program's descriptor, never closed here */
    bool read_only;        /* another process's table: no descriptors */
    uint32_t first_member; /* group number of slot 0: 0 if it is the global listener, else 1 */
    uint32_t own_from;     /* fds[own_from..made) were made here */
    uint32_t made;
    int lowest_fd;              /* where descriptors that we make belong */
    struct fs_channel *channel; /* that accepts; NULL: accept4(2) does */
    int fds[];
};

/* NULL if the table has no such slot. */
static inline struct slot_record *table_slot(const struct fs_table *t, int slot)
{
    return slot >= 0 && (uint32_t)slot < t->page->slots ? &t->page->slot[slot] : NULL;
}

/* `fd` with a number that is out of the program's way, or as it is where there is none left. */
int table_place(const struct fs_table *t, int fd);

uint64_t table_cookie(int fd); /* SO_COOKIE, 0 if it has none */

/* Give up the claim that thread `tid` of this process has, whichever thread asks. */
int table_release(struct fs_table *t, int slot, pid_t tid);
/* Attach the program that fits the live set (claims.c). */
int table_steer(struct fs_table *t);
/* Write the wanted steering, and the one it means here, into the page. */
void table_choose_steering(struct fs_table *t, enum fs_steer wanted);

#endif
