/* SPDX-License-Identifier: MIT
 *
 * The program's epoll sets that have a listener in them. In addition to the listener, we register
 * the other sources that this thread may accept from. Their events are reported as the listener's.
 *
 * - The program's own registration is passed on as it is, and is the global listener's.
 * - Our registrations carry an address of ours as their data, which no pointer or number of the
 *   program can equal. It never leaves the wait calls.
 * - A thread that adds a listener gets a slot when it waits, not before: a thread that only sets
 *   things up gets no slot. Removing the listener for a moment and adding it again (nginx) changes
 *   nothing. A thread that waits without it gives up the slot.
 * - A set that existed at a fork is shared with the parent. It is left alone.
 */
#ifndef FS_SHIM_POLLSET_H
#define FS_SHIM_POLLSET_H

#include "listener.h"

struct pollset;

#include <sys/epoll.h>

int shim_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);

/* These are called under the lock. */
void pollset_listener_left(struct listener *listener);
void pollset_duplicate(int epfd, int to);
void pollset_leave(int epfd);
/* Give up every claim of this process; they come back at the next wait. */
void pollset_suspend_all(void);
void pollset_forked(void);
/* Register the sources for this thread, which is about to wait. */
void pollset_sync(struct pollset *set);

/* This thread ends, its process does not: no process would notice, so give up its claims. */
void pollset_thread_ended(void);

#endif
