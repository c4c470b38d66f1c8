/* SPDX-License-Identifier: MIT
 *
 * A process's own view of a listen table: descriptors, and its own copy of everything that bounds a
 * loop or identifies a socket. The state that all processes share is in the page.
 */
#ifndef FS_CORE_TABLE_H
#define FS_CORE_TABLE_H

#include "page.h"

struct fs_table {
    struct mapping map;
    struct page *page; /* map.page */
    uint32_t slots;    /* records in the page: slots, or plain claims when shared */
    bool shared;
    bool first_is_slot;
    bool refused;   /* made here, with less than was requested: a call that it needs is refused */
    bool hashed;    /* no steering program is taken: the kernel hashes over all members */
    bool timed;     /* connections tell how long they waited: FS_TIMED */
    bool read_only; /* another process's table: no descriptors */
    bool numbers; /* descriptors have the page's numbers: it was made here, or inherited by fork */
    struct sockaddr_storage address;
    socklen_t address_len;
    uint64_t cookie;
    struct ledger *ledger; /* NULL: no process decides alone */
    int memfd;             /* of the page */
    int bell;              /* timerfd: rung for all processes when claims changed */
    _Atomic(int) global;   /* the program's descriptor, never closed here */
    uint32_t first_member; /* group number of slot 0: 0 if it is the global listener, else 1 */
    uint32_t own_from;     /* fds[own_from..made) were made here */
    uint32_t made;
    int lowest_fd;              /* lowest number of the descriptors that we make */
    struct fs_channel *channel; /* accepts; NULL: accept4(2) does */
    int fds[];
};

/* ---- table.c ---- */

/* Move `fd` to a number out of the program's way, if there is one left. Returns the descriptor. */
int table_place(const struct fs_table *t, int fd);

/* NULL if the table has no such slot. */
static inline struct slot_record *table_slot(const struct fs_table *t, int slot)
{
    return slot >= 0 && (uint32_t)slot < t->slots ? &t->page->slot[slot] : NULL;
}

/* ---- slot.c ---- */

/* Whether the slot has an owner that runs; works with or without the lock. */
bool slot_alive(const struct slot_record *slot);
/* slot_give, slot_clear and slot_changed are called under the lock. */
void slot_give(struct page *page, struct slot_record *slot, pid_t pid, pid_t tid, uint64_t start);
void slot_clear(struct page *page, struct slot_record *slot);
void slot_changed(struct page *page, struct slot_record *slot);

/* ---- bell.c ---- */

/* The bell is a timerfd that expires at once when it is rung: an edge for all watchers. Another
 * process cannot make that call block. It could make a write block, by changing the flags that all
 * processes share. */
int table_bell_open(const char **call); /* -errno, and the call that failed */
void table_ring(struct fs_table *t);

/* ---- steering.c, all of it under the lock ---- */

/* Attach the program that fits the live set. */
int table_steer(struct fs_table *t);
/* While the table is made, after attaching a program failed with `rc`: leave its connections to the
 * kernel's own hash. */
void table_leave_to_hash(struct fs_table *t, int rc);
/* Write the wanted steering, and the steering that it means here, into the page. */
void table_choose_steering(struct fs_table *t, enum fs_steer wanted);
/* The steering in force. */
enum fs_steer table_steering(const struct fs_table *t);
/* Leave `cpu` if the cores' shares turn out uneven. 1: the steering changed. */
int table_review(struct fs_table *t);
/* For the page of another process: steer its group, through `fd`, to the global listener and to
 * `strangers` strangers, which stand behind `slots` slots. */
int steer_past_slots(int fd, uint32_t slots, uint32_t strangers);

/* ---- lock.c ---- */

/* Take the lock, before any change of claims or of the live set. -errno, or 0 with the lock
 * held. */
int table_lock(struct fs_table *t);
/* Release the lock, and tell every process if claims or the live set changed under it. */
void table_unlock(struct fs_table *t);

/* ---- claims.c ---- */

/* Give up the claim that thread `tid` of this process has, whichever thread asks. */
int table_release(struct fs_table *t, int slot, pid_t tid);

/* ---- live.c ---- */

/* Steer connections elsewhere until the slot's owner turns again: not if no other slot is live, and
 * not more often than every 50 ms. True: from now on they go elsewhere. */
bool table_steer_away(struct fs_table *t, int slot);
/* Undo table_steer_away, because the owner turns again. */
void table_steer_back(struct fs_table *t, int slot);

#endif
