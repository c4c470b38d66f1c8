/* SPDX-License-Identifier: MIT
 *
 * A watch: one registration of a listener in one of the program's epoll sets, and the hidden
 * registrations that we add to it without the program's knowledge. A thread that changes a watch
 * holds the lock; the thread that waits reads flags and numbers without it.
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
    _Atomic(bool) wanted;  /* the program has it registered for reading */
    _Atomic(bool) applied; /* the hidden sources are registered, too */
    _Atomic(bool) stale;   /* claims have changed since the sources were registered */
    unsigned outs;
    _Atomic(struct fs_part *) part;
    struct fs_part *spent; /* freed when no signal handler can be running */
    _Atomic(int) slot;
    struct watch *next; /* in its set */
    size_t number;
};

struct pollset {
    int epfd;
    int references;      /* descriptors; 0: not in use */
    bool inherited;      /* shared with the parent */
    _Atomic(bool) dirty; /* a watch may differ from the wanted state */
    bool left_alone;     /* connections were left to siblings; only its waiter uses this */
    _Atomic(pid_t) waiter;
    _Atomic(struct watch *) watches;
    struct pollset *next;
};

/* The watch of descriptor `fd`, or NULL. */
struct watch *watch_find(struct pollset *set, int fd);
/* Make a watch; NULL if there are too many, or no memory. */
struct watch *watch_new(struct pollset *set, int fd, struct listener *listener);

/* Whether the watch is polled and claimed as the program wants. */
bool watch_in_order(const struct watch *watch);
/* The program wants connections, and this thread waits: claim a slot, and poll its sources. */
void watch_take_part(struct watch *watch);
/* The program does not want connections now. */
void watch_rest(struct watch *watch);
void watch_give_up(struct watch *watch);
/* The steering of `table` may have changed: if this thread was pinned only for that, give it back
 * the CPUs that it had before. */
void watch_unpin(const struct fs_table *table);

/* False: the event is the program's own. Else `watch` gets the watch that the event belongs to,
 * NULL if that has ended, and `source` gets the source. */
bool watch_of_event(const struct pollset *set, const struct epoll_event *event,
                    struct watch **watch, int *source);

#endif
