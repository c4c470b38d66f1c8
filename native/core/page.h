/* SPDX-License-Identifier: MIT
 *
 * The page that all processes of a listen table share: the owners of the slots, the busy threads,
 * and counters. It knows layout and locking; it does not know sockets.
 *
 * Every process that has the table may write all of the page, including workers that have dropped
 * root and run an attacker's code. So the page is input:
 * - nothing in it bounds a loop or an address: each process has its own copy of the number of
 *   records, and the mapping is sealed, because a truncated file would end its readers by SIGBUS;
 * - a flag is set if it is FLAG_SET exactly, which random bytes are not;
 * - every field is atomic, because readers (statistics, a sibling's look) take no lock and may read
 *   any value of it at any time.
 * Claims and the live set are changed under the lock. A process that dies while it has the lock
 * leaves a page that the next holder can use: an owner is written with its pid last and cleared
 * with its pid first, and a slot that lost its owner on the way is no longer live.
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

/* Returns whether the flag changed. */
static inline bool flag_write(flag *f, bool on)
{
    return (atomic_exchange(f, on ? FLAG_SET : 0) == FLAG_SET) != on;
}

struct slot_record {
    /* Each record has its own pair of cache lines: counters of one worker must not slow
     * another's. */
    alignas(128) _Atomic(int32_t) pid;
    _Atomic(int32_t) tid;
    _Atomic(uint64_t) start;
    _Atomic(int32_t) cpu;
    flag live;
    flag away; /* live, but nothing is steered here until its owner turns again */
    _Atomic(uint64_t) claims;
    _Atomic(uint64_t) epoch; /* moves with the owner and with `live` */
    _Atomic(uint64_t) own, stolen, orphan, global, arrived;
    _Atomic(uint64_t) helped;   /* connections taken by siblings because its owner was late */
    _Atomic(uint64_t) reviewed; /* `arrived` at the last review of the steering */
    _Atomic(uint64_t) cookie;   /* SO_COOKIE of the socket; sock_diag(7) lists it too */
    _Atomic(int32_t) fd; /* its number in the process that made the table, and in its forks */
};

/* The values that one thread shows to its siblings, which compare before they take another thread's
 * connection. Only that thread writes them, with plain stores: they decide nothing except which
 * thread takes a connection. */
struct part_record {
    alignas(64) _Atomic(int32_t) pid; /* 0: not in use */
    _Atomic(int32_t) tid;
    _Atomic(uint64_t) start;
    _Atomic(int32_t) slot;  /* slot that it accepts from first, or FS_GLOBAL */
    _Atomic(int32_t) open;  /* connections that it holds; FS_UNCOUNTED: unknown */
    _Atomic(uint64_t) busy; /* CLOCK_MONOTONIC, ns: since when it has not waited; 0: it waits */
    _Atomic(uint64_t) turns;
    _Atomic(uint64_t) worked; /* ns that it was busy since `began`, in all finished turns */
    _Atomic(uint64_t) began;  /* CLOCK_MONOTONIC, ns: when it began to show itself */
    _Atomic(uint64_t) late;   /* connections that it took because a sibling was late */
};

struct page {
    _Atomic(uint32_t) magic, layout;
    _Atomic(uint32_t) slots, parts; /* for processes that attach it; checked against its size */
    char release[16]; /* FS_RELEASE: two releases differ in layout, and do not share a table */
    flag shared;
    flag first_is_slot;
    flag stopping;
    flag frozen;                 /* no thread may claim: all processes use the global listener */
    flag unsteered;              /* the live set changed and no program fits it yet */
    flag joined;                 /* a stranger that listens at the address was reported */
    _Atomic(uint32_t) strangers; /* foreign members of the group; they came after ours */
    _Atomic(int32_t) wanted, steer;
    _Atomic(uint64_t) generation;
    _Atomic(uint64_t) rung; /* the generation that all processes have been told of */
    _Atomic(uint64_t) others;
    _Atomic(uint64_t) steered_away; /* CLOCK_MONOTONIC, ns: when a slot last became away */
    /* SO_COOKIE of the global listener: a process that receives the listener finds its table. */
    _Atomic(uint64_t) cookie;
    _Atomic(int32_t) bell;    /* number of the timerfd in the process that made the table */
    _Atomic(uint32_t) holder; /* thread that has the lock; 0: none */
    _Atomic(uint32_t) tenure; /* moves whenever the lock is taken */
    _Atomic(uint32_t) waiters;
    _Atomic(char) why[FS_WHY_MAX]; /* a torn read is a torn sentence */
    _Atomic(unsigned char) address[sizeof(struct sockaddr_storage)];
    _Atomic(uint32_t) address_len;
    struct slot_record slot[];
    /* struct part_record part[]: see page_parts */
    /* struct fs_histogram waits[], one for each slot: see page_waits */
};

/* A page in this process's memory, with the process's own copy of its bounds. */
struct mapping {
    struct page *page;
    size_t size;
    uint32_t slots, parts;
};

/* A new page with `slots` records on a sealed memfd; the caller owns both. If a call that such a
 * memfd needs is refused, it returns that errno, positive: then *memfd is -1, *call is the name of
 * the call, and only forks have the page. */
int page_create(struct mapping *out, int *memfd, uint32_t slots, const char **call);
/* Another process's page; -EINVAL if it is not a page of ours, or is of another release. */
int page_attach(struct mapping *out, int memfd, bool writable);
void page_unmap(const struct mapping *mapping);
/* Write the part of the header that never changes. */
void page_head(struct page *page, uint32_t slots, uint32_t parts);
/* Whether the header is that of a page with this number of records. */
bool page_head_is(const struct page *page, uint32_t slots, uint32_t parts);
struct part_record *page_parts(const struct mapping *mapping);
struct fs_histogram *page_waits(const struct mapping *mapping, uint32_t slot);

/* Texts and addresses are copied byte by byte: any process may be writing them. A `why` that was
 * read is printable ASCII and has an end. */
void page_say(struct page *page, const char *why);
void page_read_why(const struct page *page, char why[FS_WHY_MAX]);
void page_write_address(struct page *page, const struct sockaddr_storage *address,
                        socklen_t length);
/* Returns the length, never more than the size of *address. */
socklen_t page_read_address(const struct page *page, struct sockaddr_storage *address);

/* Returns 0, or 1 if the lock was taken from a holder that died with it or kept it too long: then
 * redo the work that the holder may have left undone. A holder that lives and has the lock for a
 * second is stopped, or a liar, and loses it. No thread waits longer than five seconds. */
int page_lock(struct page *page);
/* page_lock for a process that trusts no holder: it waits for `most` nanoseconds in all. */
int page_lock_within(struct page *page, uint64_t most);
/* False: the lock was taken from us meanwhile. */
bool page_unlock(struct page *page);

#endif
