/* SPDX-License-Identifier: MIT
 *
 * Which backend this process has: chosen when the first listener asks for it. On the device, what
 * there is to do for a listener is done here, and only here; everything else in the library is the
 * listen table's.
 */
#ifndef FS_SHIM_BACKEND_H
#define FS_SHIM_BACKEND_H

#include <stdbool.h>

/* Under the lock: true if there is any. */
bool backend_choose(void);

/* Under the lock, of the device: the listener gets local listeners from the module. False: the
 * backend is another. Else 0 in `rc`, or why not: -errno, told for people too. */
bool backend_listen(int fd, int backlog, const char *name, int *rc);
/* A listener came from another process: this one gets its own behind it. False: as above. */
bool backend_received(int fd);
/* In a forked child: what it waits on it gets a local listener of its own for. */
void backend_forked(void);

#endif
