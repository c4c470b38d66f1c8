/* SPDX-License-Identifier: MIT */
#include "process.h"

#include <errno.h>
#include <fastsocket/fs.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

pid_t fs_thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/* proc(5): "pid (comm) state ..."; comm may hold anything, so fields count from the last ')'. */
static bool read_stat_of(const char *path, char *state, uint64_t *start)
{
    char text[1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    char *field = strrchr(text, ')');
    if (!field || field[1] == '\0')
        return false;
    *state = field[2];
    field += 2; /* field 3, the state; the start time is field 22 */
    for (int i = 3; i < 22; i++) {
        field = strchr(field, ' ');
        if (!field)
            return false;
        field++;
    }
    *start = strtoull(field, NULL, 10);
    return true;
}

static bool read_stat(pid_t pid, pid_t tid, char *state, uint64_t *start)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    return read_stat_of(path, state, start);
}

uint64_t process_start(pid_t pid, pid_t tid)
{
    char state;
    uint64_t start;
    return read_stat(pid, tid, &state, &start) ? start : 0;
}

bool process_alive(pid_t pid, pid_t tid, uint64_t start)
{
    char state;
    uint64_t now;
    if (pid <= 0 || tid <= 0)
        return false;
    if (start != 0 && read_stat(pid, tid, &state, &now))
        return now == start && state != 'Z' && state != 'X';
    /* No /proc, or hidepid hides it: the kernel still tells whether the thread exists. */
    return syscall(SYS_tgkill, pid, tid, 0) == 0 || errno != ESRCH;
}

bool thread_runs(uint32_t tid)
{
    char path[64], state;
    uint64_t start;
    if (tid == 0 || tid > INT32_MAX)
        return false;
    snprintf(path, sizeof path, "/proc/%u/stat", tid); /* threads, too: proc(5), /proc/tid */
    if (read_stat_of(path, &state, &start))
        return state != 'Z' && state != 'X';
    return syscall(SYS_tkill, tid, 0) == 0 || errno != ESRCH;
}

bool thread_sleeps(pid_t pid, pid_t tid)
{
    char state;
    uint64_t start;
    return pid > 0 && tid > 0 && read_stat(pid, tid, &state, &start) && strchr("SDTt", state);
}

int fs_parent_death_signal(int signal, pid_t parent)
{
    /* If prctl is refused, the end of the supervisor's pipe tells. The parent may have died before
     * the call; then the signal never comes. */
    prctl(PR_SET_PDEATHSIG, signal);
    return getppid() == parent ? 0 : -ESRCH;
}
