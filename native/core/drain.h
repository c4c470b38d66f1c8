/* SPDX-License-Identifier: MIT
 *
 * Stopping a listener without a reset: what keeps new handshakes away, and what is still to come.
 */
#ifndef FS_CORE_DRAIN_H
#define FS_CORE_DRAIN_H

/* No new handshake starts on this listener; those under way end as soon as the client's next
 * segment comes, deferred accept or not. */
int drain_stop_arrivals(int fd);

/* Connections that wait to be accepted. */
int drain_queued(int fd);

/* Handshakes under way at the local address of `fd`, whichever listener they belong to. */
int drain_half_open(int fd);

#endif
