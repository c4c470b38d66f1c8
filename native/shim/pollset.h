/* SPDX-License-Identifier: MIT
 *
 * The program's epoll sets that have a listener in them: beside the listener we register there what
 * else this thread may accept from, and what comes from those is reported as the listener's own.
 *
 * - The program's own registration is passed on as it is, and is the global listener's.
 * - What we register carries an address of ours as its data, which no pointer or number of the
 *   program's can equal; it never leaves the wait calls.
 * - A listener that a thread adds is claimed when that thread waits, not before: who only sets
 *   things up gets no slot. Taking it out for a moment and in again (nginx) changes nothing; one
 *   that is still out at the next wait gives its slot up.
 * - A set that was there at a fork is shared with the parent. It is left alone.
 */
#ifndef FS_SHIM_POLLSET_H
#define FS_SHIM_POLLSET_H

#include "listener.h"

struct pollset;

#include <sys/epoll.h>

int shim_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);

/* Under the lock. */
void pollset_listener_left(struct listener *listener);
void pollset_duplicate(int epfd, int to);
void pollset_leave(int epfd);
/* Give up every claim of this process; they come back at the next wait. */
void pollset_suspend_all(void);
void pollset_forked(void);
/* Have registered what this thread, which is about to wait, is to be told of. */
void pollset_sync(struct pollset *set);

/* This thread ends and its process does not: nobody would notice. */
void pollset_thread_ended(void);

#endif
