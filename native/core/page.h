/* SPDX-License-Identifier: MIT
 *
 * The page that all processes of a listen table share: who serves which slot, who is busy, and
 * counters. It knows layout and locking; it does not know sockets.
 *
 * Every process that has the table may write all of it, workers that have dropped root and run
 * somebody's exploit among them. So it is input:
 * - nothing in it bounds a loop or an address: how many records there are is each process's own
 *   copy, and the mapping is sealed, or a truncated file would end its readers by SIGBUS;
 * - a flag is set if it is FLAG_SET exactly, which random bytes are not;
 * - every field is atomic, for readers (statistics, a sibling's look) take no lock, and any value
 *   of it may be read at any time.
 * Claims and the live set are changed under the lock. Whoever dies with it in hand leaves a page
 * that the next one can use: an owner is written with its pid last and cleared with its pid first,
 * and a slot that lost its owner on the way is no longer live.
 */
#ifndef FS_CORE_PAGE_H
#define FS_CORE_PAGE_H

#include <fastsocket/fs.h>
#include <stdalign.h>
#include <stdatomic.h>

typedef _Atomic(uint32_t) flag;
enum { FLAG_SET = 0x1ee7f1a6 };

static inline bool flag_read(const flag *f)
{
    return atomic_load(f) == FLAG_SET;
}

/* Whether it was another before. */
static inline bool flag_write(flag *f, bool on)
{
    return (atomic_exchange(f, on ? FLAG_SET : 0) == FLAG_SET) != on;
}

struct slot_record {
    /* Its own pair of cache lines: counters of one worker must not slow another's. */
    alignas(128) _Atomic(int32_t) pid;
    _Atomic(int32_t) tid;
    _Atomic(uint64_t) start;
    _Atomic(int32_t) cpu;
    flag live;
    flag away; /* live, but nothing is steered here until its owner turns again */
    _Atomic(uint64_t) claims;
    _Atomic(uint64_t) epoch; /* moves with the owner and with `live` */
    _Atomic(uint64_t) own, stolen, orphan, global, arrived;
    _Atomic(uint64_t) helped;   /* taken by siblings because its owner was late */
    _Atomic(uint64_t) reviewed; /* `arrived` at the last review of the steering */
    _Atomic(uint64_t) cookie;   /* SO_COOKIE of the socket, by which sock_diag(7) knows it too */
    _Atomic(int32_t) fd;        /* its number, where the table was made and in the forks of that */
};

/* What one thread shows of itself to its siblings, who compare before they take what is another's.
 * Written by that thread alone, with plain stores: what stands here decides nothing but who takes
 * a connection. */
struct part_record {
    alignas(64) _Atomic(int32_t) pid; /* 0: not in use */
    _Atomic(int32_t) tid;
    _Atomic(uint64_t) start;
    _Atomic(int32_t) slot;  /* that it accepts from first, or FS_GLOBAL */
    _Atomic(int32_t) open;  /* connections that it holds; FS_UNCOUNTED */
    _Atomic(uint64_t) busy; /* CLOCK_MONOTONIC, ns: since when it has not waited; 0: it waits */
    _Atomic(uint64_t) turns;
    _Atomic(uint64_t) worked; /* ns that it was busy, in all turns that are over, ... */
    _Atomic(uint64_t) began;  /* ... since then, CLOCK_MONOTONIC */
    _Atomic(uint64_t) late;   /* connections that it took because a sibling was late */
};

struct page {
    _Atomic(uint32_t) magic, layout;
    _Atomic(uint32_t) slots, parts; /* for those who attach it, and checked against its size */
    char release[16]; /* FS_RELEASE: the layout is its own, two releases do not share a table */
    flag shared;
    flag first_is_slot;
    flag stopping;
    flag frozen;                 /* nobody may claim: the global listener is everybody's */
    flag unsteered;              /* the live set changed and no program fits it yet */
    flag joined;                 /* that somebody else listens at the address was told */
    _Atomic(uint32_t) strangers; /* members of the group beside ours, listening since then */
    _Atomic(int32_t) wanted, steer;
    _Atomic(uint64_t) generation;
    _Atomic(uint64_t) rung; /* the generation that all have been told of */
    _Atomic(uint64_t) others;
    _Atomic(uint64_t) steered_away; /* CLOCK_MONOTONIC, ns: when that was last done */
    _Atomic(uint64_t)
        cookie;            /* SO_COOKIE of the global listener: who receives it finds its table */
    _Atomic(int32_t) bell; /* number of the timerfd, where the table was made */
    _Atomic(uint32_t) holder; /* thread that has the lock; 0: nobody */
    _Atomic(uint32_t) tenure; /* moves whenever it is taken */
    _Atomic(uint32_t) waiters;
    _Atomic(char) why[FS_WHY_MAX]; /* a torn read is a torn sentence */
    _Atomic(unsigned char) address[sizeof(struct sockaddr_storage)];
    _Atomic(uint32_t) address_len;
    struct slot_record slot[];
    /* struct part_record part[]: see page_parts */
    /* struct fs_histogram waits[], one for each slot: see page_waits */
};

/* A page in this process's memory, with its own copy of what bounds it. */
struct mapping {
    struct page *page;
    size_t size;
    uint32_t slots, parts;
};

/* A new page with `slots` records on a sealed memfd; the caller owns both. Where a call that such a
 * memfd needs is refused it returns that errno, positive: then *memfd is -1, *call its name, and
 * only forks have the page. */
int page_create(struct mapping *out, int *memfd, uint32_t slots, const char **call);
/* Another process's page; -EINVAL if it is none of ours, or of another release. */
int page_attach(struct mapping *out, int memfd, bool writable);
void page_unmap(const struct mapping *mapping);
/* Write the part of the header that never changes. */
void page_head(struct page *page, uint32_t slots, uint32_t parts);
/* Whether the header is that of a page with so many records. */
bool page_head_is(const struct page *page, uint32_t slots, uint32_t parts);
struct part_record *page_parts(const struct mapping *mapping);
struct fs_histogram *page_waits(const struct mapping *mapping, uint32_t slot);

/* Texts and addresses, byte by byte: anybody may be writing them. What is read of `why` is
 * printable ASCII and ends. */
void page_say(struct page *page, const char *why);
void page_read_why(const struct page *page, char why[FS_WHY_MAX]);
void page_write_address(struct page *page, const struct sockaddr_storage *address,
                        socklen_t length);
/* The length, never more than the size of *address. */
socklen_t page_read_address(const struct page *page, struct sockaddr_storage *address);

/* 0, or 1 if the last holder died with it: then derive again what it may have left undone. A holder
 * that lives and has it for a second is stopped, or a liar, and loses it; nobody waits longer than
 * five seconds. */
int page_lock(struct page *page);
/* The same by one who trusts nobody: so many nanoseconds in all. */
int page_lock_within(struct page *page, uint64_t most);
/* False: it was taken from us meanwhile. */
bool page_unlock(struct page *page);

#endif
