/* SPDX-License-Identifier: MIT
 *
 * Stopping a listener without a reset: keep new handshakes away, and count the connections that are
 * still to come.
 */
#ifndef FS_CORE_DRAIN_H
#define FS_CORE_DRAIN_H

/* Let no new handshake start on this listener. Handshakes in progress end as soon as the client's
 * next segment comes, deferred accept or not. */
int drain_stop_arrivals(int fd);

/* The number of connections that wait to be accepted. */
int drain_queued(int fd);

/* The number of handshakes in progress at the local address of `fd`, for any listener there. */
int drain_half_open(int fd);

#endif
