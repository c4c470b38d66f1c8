/* SPDX-License-Identifier: MIT
 *
 * What part.c, record.c and compare.c know of a part.
 */
#ifndef FS_CORE_PART_H
#define FS_CORE_PART_H

#include "process.h"
#include "table.h"

/* Why a slot is watched: part.c, the table at its head. */
enum kind { NOT, OWN, ORPHAN, SIBLING };

struct watched {
    uint64_t epoch;
    uint8_t kind;
    bool took;      /* one was taken when it was last compared */
    bool muted;     /* a sibling's slot does not wake us for now */
    uint8_t looks;  /* a sibling's queue is to be looked at again, so often, */
    uint64_t due;   /* ... next then, CLOCK_MONOTONIC in ns */
    uint64_t turns; /* its owner's, when that was first seen, */
    uint64_t since; /* ... and when that was, CLOCK_MONOTONIC in ns; 0: not looked at */
    uint64_t asked; /* ns that the owner was busy when /proc last said that it runs */
};

struct fs_part {
    struct fs_table *table;
    const struct fs_poller *poller;
    void *context;
    int slot;                   /* claimed or given, or FS_GLOBAL, */
    int assigned;               /* ... given for good, */
    pid_t tid;                  /* ... or claimed by this thread */
    bool with_global;           /* the global listener is polled by `poller` too */
    bool global_watched;        /* ... and is now */
    bool parked;                /* claimed to be counted only */
    bool refused;               /* our slot could not be polled: stay with the global listener */
    bool resting;               /* nothing is polled for now */
    bool was_live;              /* ... and our slot takes no arrivals because of that */
    uint64_t generation;        /* of the table, when it was last looked at */
    pid_t neighbour;            /* the next owner, whose end we notice, */
    int pidfd;                  /* ... by this; -1: nobody */
    pid_t undead;               /* a neighbour whose end its slot does not show */
    uint32_t left_alone;        /* siblings with watched[].looks */
    struct part_record *record; /* in the page, or ... */
    struct part_record unseen;
    struct watched watched[];
};

/* record.c: have a record in the page, where there is one to be had; no more. */
void part_show(struct fs_part *part);
void part_hide(struct fs_part *part);

/* Whether one of the connections that wait at a sibling's slot is to be taken now. If not, it sets
 * watched[slot].looks. */
bool part_compare(struct fs_part *part, uint32_t slot);
/* The same, and nothing else. */
bool part_would_take(struct fs_part *part, uint32_t slot);

#endif
