/* SPDX-License-Identifier: MIT */
#include "table.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

int table_bell_open(const char **call)
{
    const struct itimerspec never = {0};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    /* A bell that this process may not ring is useless. */
    if (fd >= 0 && timerfd_settime(fd, 0, &never, NULL) == 0)
        return fd;
    int rc = -errno;
    *call = fd < 0 ? "timerfd_create" : "timerfd_settime";
    if (fd >= 0)
        close(fd);
    return rc;
}

void table_ring(struct fs_table *t)
{
    const struct itimerspec at_once = {.it_value = {.tv_nsec = 1}};
    timerfd_settime(t->bell, 0, &at_once, NULL);
}
