/* SPDX-License-Identifier: MIT
 *
 * Threads that wait for connections by other means than epoll: poll, select and an accept that
 * blocks. They claim nothing. As long as no thread claims a slot, all connections arrive at the
 * global listener, where they wait. After the first claim they also take connections from slots.
 */
#ifndef FS_SHIM_WAIT_H
#define FS_SHIM_WAIT_H

#include "listener.h"

#include <poll.h>
#include <signal.h>
#include <sys/select.h>
#include <time.h>

/* timeout NULL: wait for ever */
int shim_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
               const sigset_t *mask);
bool wait_polls(struct pollfd *fds, nfds_t count);
/* Whether sets for select(2) have a listener or a hidden descriptor in them. */
bool wait_selects(int count, const fd_set *read, const fd_set *write, const fd_set *except);
int shim_pselect(int count, fd_set *read, fd_set *write, fd_set *except,
                 const struct timespec *timeout, const sigset_t *mask);

/* accept4(2) by a thread that no wait has told the source: try any source, then wait as O_NONBLOCK
 * and SO_RCVTIMEO of the listener demand. A descriptor or -errno. */
int wait_accept(int fd, struct sockaddr *address, socklen_t *length, int flags);

/* Before an accept while no slot is claimed: an accept that blocks would not notice a later claim,
 * so from now on no thread may claim. False: another thread has already claimed. */
bool wait_freezes(int fd, struct fs_table *table);

void wait_deadline(const struct timespec *timeout, struct timespec *deadline);
void wait_left(const struct timespec *deadline, struct timespec *left);

#endif
