/* SPDX-License-Identifier: MIT */
#include "table.h"

#include <errno.h>
#include <sys/timerfd.h>

int table_bell_open(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

void table_ring(struct fs_table *t)
{
    const struct itimerspec at_once = {.it_value = {.tv_nsec = 1}};
    timerfd_settime(t->bell, 0, &at_once, NULL);
}
