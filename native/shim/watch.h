/* SPDX-License-Identifier: MIT
 *
 * A watch: one registration of a listener in one of the program's epoll sets, and what is
 * registered beside it without the program's knowledge. Who changes it holds the lock; the thread
 * that waits reads flags and numbers without.
 */
#ifndef FS_SHIM_WATCH_H
#define FS_SHIM_WATCH_H

#include "listener.h"

#include <sys/epoll.h>

struct watch {
    struct listener *listener; /* NULL: not in use */
    struct pollset *set;
    int fd;
    uint32_t events;
    epoll_data_t data;
    _Atomic(bool) wanted;  /* the program has it registered for reading, */
    _Atomic(bool) applied; /* ... and what else is to be polled is, */
    _Atomic(bool) stale;   /* ... but claims have changed since */
    unsigned outs;
    _Atomic(struct fs_part *) part;
    struct fs_part *spent; /* to be freed when no signal handler can be under way */
    _Atomic(int) slot;
    struct watch *next; /* in its set */
    size_t number;
};

struct pollset {
    int epfd;
    int references;      /* descriptors; 0: not in use */
    bool inherited;      /* the parent's too */
    _Atomic(bool) dirty; /* some watch may not be as it is wanted */
    bool left_alone;     /* siblings' connections were; its waiter's own */
    _Atomic(pid_t) waiter;
    _Atomic(struct watch *) watches;
    struct pollset *next;
};

/* The watch of descriptor `fd`, or NULL. */
struct watch *watch_find(struct pollset *set, int fd);
/* A new one; NULL if there are too many, or no memory. */
struct watch *watch_new(struct pollset *set, int fd, struct listener *listener);

/* Polled and claimed is what is wanted. */
bool watch_in_order(const struct watch *watch);
/* The program wants connections, and this thread waits: claim, and have polled what there is. */
void watch_take_part(struct watch *watch);
/* The program does not want connections now. */
void watch_rest(struct watch *watch);
void watch_give_up(struct watch *watch);
/* The steering of its table may have changed: if this thread was pinned because of that, it may run
 * where it might before. */
void watch_unpin(const struct fs_table *table);

/* False: the event is the program's own. Else the watch that it belongs to, NULL if that has ended,
 * and which of its sources. */
bool watch_of_event(const struct pollset *set, const struct epoll_event *event,
                    struct watch **watch, int *source);

#endif
