/* SPDX-License-Identifier: MIT */
#include "state.h"
#include "backend.h"
#include "log.h"
#include "pass.h"
#include "pollset.h"
#include "real.h"

#include <fastsocket/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/auxv.h>
#include <unistd.h>

struct state state;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sigset_t before_fork;

void state_lock(sigset_t *saved)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, saved);
    pthread_mutex_lock(&lock);
}

void state_unlock(const sigset_t *saved)
{
    pthread_mutex_unlock(&lock);
    pthread_sigmask(SIG_SETMASK, saved, NULL);
}

bool state_mine(void)
{
    return state.pid == getpid();
}

static void fork_prepare(void)
{
    sigset_t saved;
    state_lock(&saved);
    before_fork = saved; /* only now may we write it */
}

static void fork_parent(void)
{
    sigset_t saved = before_fork;
    state_unlock(&saved);
}

static void fork_child(void)
{
    sigset_t saved = before_fork;
    state.pid = getpid();
    pollset_forked();
    backend_forked();
    state_unlock(&saved);
}

static void start(void)
{
    char wrong[FS_WHY_MAX] = "";
    real_resolve();
    state.pid = getpid();
    /* A process that has gained privileges takes nothing from the process that started it, and
     * leaves nothing either: /etc/ld.so.preload loads us there, ld.so(8). */
    if (getauxval(AT_SECURE))
        return;
    int rc = settings_read(&state.settings, wrong, sizeof wrong);
    log_start(&state.settings);
    state.on = rc == 0 && state.settings.backend != FS_BACKEND_OFF;
    if (rc)
        log_line(LOG_ERROR, "%s; the program runs without local listeners", wrong);
    if (state.settings.old_pin)
        log_line(LOG_INFO, "FSOCKET_PIN=%d is deprecated: use %s", state.settings.pin == PIN_ON,
                 state.settings.pin == PIN_ON ? "on" : "off");
    pthread_atfork(fork_prepare, fork_parent, fork_child);
    pass_receive();
}

void state_start(void)
{
    pthread_once(&once, start);
}

__attribute__((constructor)) static void constructor(void)
{
    state_start();
}
