/* SPDX-License-Identifier: MIT */
#include "backend.h"
#include "log.h"
#include "state.h"

#include <errno.h>
#include <string.h>

static struct fs_channel *device; /* NULL: another backend, or none was chosen yet */

bool backend_choose(void)
{
    static bool chosen;
    struct fs_channel *channel;
    char why[FS_WHY_MAX] = "";
    if (chosen)
        return state.on;
    chosen = true;
    int rc =
        fs_channel_open(&channel, state.settings.backend, &(struct fs_channel_options){0}, why);
    if (rc) {
        log_line(LOG_ERROR, "%s; the program runs without local listeners", why);
        state.on = false;
        return false;
    }
    enum fs_backend backend = fs_channel_backend(channel);
    log_line(LOG_INFO, "backend %s: %s", fs_backend_name(backend), why);
    if (backend == FS_BACKEND_DEVICE)
        device = channel;
    else
        fs_channel_free(channel);
    return true;
}

bool backend_listen(int fd, int backlog, const char *name, int *rc)
{
    if (!device)
        return false;
    *rc = fs_channel_listen(device, fd, backlog);
    if (!*rc)
        *rc = fs_channel_spawn_listen(device, fd, -1);
    if (!*rc)
        log_line(LOG_INFO, "%s: a local listener on each core that a thread waits on", name);
    else if (*rc != -EADDRINUSE) /* the program handles this itself: listen() will report it */
        log_line(LOG_ERROR, "%s: no local listeners: %s", name, strerror(-*rc));
    return true;
}

bool backend_received(int fd)
{
    sigset_t saved;
    state_lock(&saved);
    bool here = backend_choose() && device;
    if (here)
        fs_channel_spawn_listen(device, fd, -1);
    state_unlock(&saved);
    return here;
}

void backend_forked(void)
{
    if (device) /* helper processes wait on none */
        fs_channel_spawn_all_listen(device);
}
