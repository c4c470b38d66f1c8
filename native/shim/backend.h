/* SPDX-License-Identifier: MIT
 *
 * The backend of this process, which is chosen when the first listener needs it. All work for a
 * listener on the device is done here, and only here; everything else in the library is for listen
 * tables.
 */
#ifndef FS_SHIM_BACKEND_H
#define FS_SHIM_BACKEND_H

#include <stdbool.h>

/* Under the lock: choose the backend. True if there is one. */
bool backend_choose(void);

/* Under the lock, on the device: the listener gets local listeners from the module. False: the
 * backend is another. Else `rc` is 0 or -errno, which is logged, except -EADDRINUSE. */
bool backend_listen(int fd, int backlog, const char *name, int *rc);
/* On the device: give this process a local listener behind `fd`, which it received from another
 * process. False: the backend is another. */
bool backend_received(int fd);
/* In a forked child: get a local listener of its own for each listener that it waits on. */
void backend_forked(void);

#endif
