/* SPDX-License-Identifier: MIT
 *
 * The state of this process: its settings, its listeners, and the lock of everything that is not
 * read on every call. Signals are blocked while the lock is held, because a signal handler may call
 * close(2) and others.
 */
#ifndef FS_SHIM_STATE_H
#define FS_SHIM_STATE_H

#include "settings.h"

#include <signal.h>

struct listener; /* listener.h */
struct pollset;  /* pollset.h */

struct state {
    bool on; /* the settings were understood, and the backend is not off */
    struct settings settings;
    pid_t pid;                  /* of the process that all this belongs to */
    struct listener *listeners; /* never freed, used again */
    struct pollset *pollsets;   /* never freed, used again */
};

extern struct state state;

void state_lock(sigset_t *saved);
void state_unlock(const sigset_t *saved);

/* False in a vfork child, which has its own descriptors but our memory: nothing may be written. */
bool state_mine(void);

/* Do the work of the constructor now, if a call comes before it ran. */
void state_start(void);

#endif
