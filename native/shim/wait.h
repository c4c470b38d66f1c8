/* SPDX-License-Identifier: MIT
 *
 * Who waits for connections by other means than epoll: poll, select and an accept that blocks.
 * They claim nothing. As long as nobody else does, all arrives where they look; from then on they
 * look at what the claimers leave, too.
 */
#ifndef FS_SHIM_WAIT_H
#define FS_SHIM_WAIT_H

#include "listener.h"

#include <poll.h>
#include <signal.h>
#include <sys/select.h>
#include <time.h>

/* timeout NULL: for ever */
int shim_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
               const sigset_t *mask);
bool wait_polls(struct pollfd *fds, nfds_t count);
/* Whether sets for select(2) have a listener in them, or what is hidden. */
bool wait_selects(int count, const fd_set *read, const fd_set *write, const fd_set *except);
int shim_pselect(int count, fd_set *read, fd_set *write, fd_set *except,
                 const struct timespec *timeout, const sigset_t *mask);

/* accept4(2) by somebody whom no wait has told where: any source, then as the listener's O_NONBLOCK
 * and SO_RCVTIMEO say. A descriptor or -errno. */
int wait_accept(int fd, struct sockaddr *address, socklen_t *length, int flags);

/* Before an accept where nobody has claimed a slot: one that blocks must not be left waiting when
 * somebody does, so nobody may from now on. False: somebody was faster. */
bool wait_freezes(int fd, struct fs_table *table);

void wait_deadline(const struct timespec *timeout, struct timespec *deadline);
void wait_left(const struct timespec *deadline, struct timespec *left);

#endif
