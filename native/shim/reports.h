/* SPDX-License-Identifier: MIT
 *
 * Waiting for a set with a listener in it, and accepting the reported connections. An event of a
 * hidden source is reported as the listener's own, once. The thread remembers the source, so that
 * its accept need not try them all.
 */
#ifndef FS_SHIM_REPORTS_H
#define FS_SHIM_REPORTS_H

#include "listener.h"

#include <sys/epoll.h>
#include <time.h>

struct pollset;

/* One of the three wait calls, with its arguments. */
struct wait_call {
    int (*once)(const struct wait_call *call, struct epoll_event *events, int most,
                const struct timespec *timeout);
    int epfd;
    const sigset_t *mask;
};
/* timeout NULL: wait for ever */
int shim_epoll_wait(const struct wait_call *call, struct epoll_event *events, int most,
                    const struct timespec *timeout);

/* accept4(2) by a thread that waited: from the sources that its last wait reported. False: the wait
 * did not report this listener. */
bool reports_accept(struct listener *listener, struct fs_table *table, struct sockaddr *address,
                    socklen_t *length, int flags, int *rc);

/* The listener's slot that this thread, or else this process, has; or FS_GLOBAL. */
int reports_slot(const struct listener *listener);

/* This thread's part in the listener's table, if it waits for it; or NULL. */
struct fs_part *reports_part(const struct listener *listener);

/* This thread is the one that last waited for the set. */
bool reports_waiter(const struct pollset *set);
/* In a forked child: forget all reports. */
void reports_forget(void);

#endif
