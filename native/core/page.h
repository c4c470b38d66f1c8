/* SPDX-License-Identifier: MIT
 *
 * The page that all processes of a listen table share: who serves which slot, and counters.
 * It knows layout, locking and claims; it does not know sockets.
 *
 * Every field is atomic, because readers (statistics, a sibling's look) take no lock. Writers of
 * claims and of the live set hold the lock, which is robust: whoever dies with it in hand leaves
 * a page that the next one can use, because an owner is written with its pid last and cleared
 * with its pid first, and a slot that lost its owner on the way is no longer live.
 */
#ifndef FS_CORE_PAGE_H
#define FS_CORE_PAGE_H

#include <fastsocket/fs.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

struct slot_record {
    /* Its own pair of cache lines: counters of one worker must not slow another's. */
    alignas(128) _Atomic(int32_t) pid;
    _Atomic(int32_t) tid;
    _Atomic(uint64_t) start;
    _Atomic(int32_t) cpu;
    _Atomic(bool) live;
    _Atomic(uint64_t) claims;
    _Atomic(uint64_t) epoch; /* moves with the owner and with `live` */
    _Atomic(uint64_t) own, stolen, orphan, global, arrived;
    _Atomic(uint64_t) reviewed; /* `arrived` at the last review of the steering */
    uint64_t cookie;            /* SO_COOKIE of the socket, by which sock_diag(7) knows it too */
    int32_t fd;                 /* its number, where the table was made and in the forks of that */
};

struct page {
    uint32_t magic, version, slots;
    bool shared;
    bool first_is_slot;
    _Atomic(bool) stopping;
    _Atomic(bool) retired;       /* nobody may claim any more: the global listener is everybody's */
    _Atomic(uint32_t) strangers; /* members of the group beside ours, listening since then */
    _Atomic(bool) unsteered;     /* the live set changed and no program fits it yet */
    _Atomic(int32_t) wanted, steer;
    _Atomic(uint64_t) generation;
    uint64_t rung; /* the generation that all have been told of; under the lock */
    _Atomic(uint64_t) others;
    int32_t bell;    /* number of the eventfd, likewise */
    uint64_t cookie; /* SO_COOKIE of the global listener: whoever receives it finds its table */
    pthread_mutex_t lock;
    char why[FS_WHY_MAX]; /* written under the lock; a torn read is a torn sentence */
    struct sockaddr_storage address;
    socklen_t address_len;
    struct slot_record slot[];
};

/* A new page with `slots` records on a memfd; the caller owns both. */
int page_create(struct page **out, int *memfd, uint32_t slots);
/* Another process's page; -EINVAL if it is none of ours. */
int page_attach(struct page **out, int memfd, bool writable);
void page_unmap(struct page *page);

/* 0, or 1 if the last holder died with it: then derive again what it may have left undone. */
int page_lock(struct page *page);
void page_unlock(struct page *page);

/* Has an owner that runs; with or without the lock. */
bool slot_alive(const struct slot_record *slot);

/* Under the lock. */
void slot_give(struct page *page, struct slot_record *slot, pid_t pid, pid_t tid, uint64_t start);
void slot_clear(struct page *page, struct slot_record *slot);
void slot_changed(struct page *page, struct slot_record *slot);

#endif
