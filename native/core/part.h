/* SPDX-License-Identifier: MIT
 *
 * A part's state, for part.c, record.c and compare.c.
 */
#ifndef FS_CORE_PART_H
#define FS_CORE_PART_H

#include "process.h"
#include "table.h"

/* Why a slot is watched: see the table at the head of part.c. */
enum kind { NOT, OWN, ORPHAN, SIBLING };

struct watched {
    uint64_t epoch;
    uint8_t kind;
    bool took;      /* a connection was taken when the slot was last compared */
    bool muted;     /* a sibling's slot does not wake us for now */
    uint8_t looks;  /* remaining looks at a sibling's queue */
    uint64_t due;   /* when the next look is due, CLOCK_MONOTONIC in ns */
    uint64_t turns; /* the owner's turns, when first seen at this value */
    uint64_t since; /* when `turns` was first seen, CLOCK_MONOTONIC in ns; 0: not looked at */
    uint64_t asked; /* ns that the owner was busy when /proc last said that it runs */
};

struct fs_part {
    struct fs_table *table;
    const struct fs_poller *poller;
    void *context;
    int slot;                   /* claimed or given, or FS_GLOBAL */
    int assigned;               /* slot that was given for good, or FS_GLOBAL */
    pid_t tid;                  /* thread that claimed `slot` */
    bool with_global;           /* the global listener is polled by `poller` too */
    bool global_watched;        /* the global listener is polled now */
    bool parked;                /* the slot was claimed for counting only */
    bool refused;               /* our slot could not be polled: stay with the global listener */
    bool resting;               /* nothing is polled for now */
    bool was_live;              /* our slot was live, and takes no arrivals because we rest */
    uint64_t generation;        /* of the table, when the part last looked at it */
    pid_t neighbour;            /* the next owner, whose end we notice */
    int pidfd;                  /* of the neighbour; -1: none */
    pid_t undead;               /* a neighbour whose end its slot does not show */
    uint32_t left_alone;        /* number of siblings with watched[].looks > 0 */
    struct part_record *record; /* in the page, or `unseen` */
    struct part_record unseen;
    struct watched watched[];
};

/* record.c: take a record in the page, if one is free (part_show), and give it up (part_hide). */
void part_show(struct fs_part *part);
void part_hide(struct fs_part *part);

/* Whether to take one of the connections that wait at a sibling's slot now. It also sets
 * watched[slot].looks for the next look. */
bool part_compare(struct fs_part *part, uint32_t slot);
/* part_compare, but looks and wake-ups stay as they are. */
bool part_would_take(struct fs_part *part, uint32_t slot);

#endif
