/* SPDX-License-Identifier: MIT
 *
 * Shared code of the programs that run inside the kernel's guest: the ioctls by name, listeners,
 * clients on a core, and the lines of /proc/net/fastsocket.
 */
#ifndef FS_KERNEL_DEVICE_H
#define FS_KERNEL_DEVICE_H

#include "../../../native/tests/check.h"

#include <fastsocket/uapi.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

static int device;

/* The factor by which everything takes longer here: an emulated kernel with KASAN and lockdep. */
static inline int slow(void)
{
    const char *text = getenv("SLOW");
    return text ? atoi(text) : 1;
}

static inline void open_device(void)
{
    device = open(FSOCKET_DEVICE, O_RDONLY | O_CLOEXEC);
    CHECK(device >= 0);
}

/* Call an operation like a system call: -1 and errno, or the result. */
static inline int call(unsigned long operation, struct fsocket_ioctl_arg arg)
{
    return ioctl(device, operation, &arg);
}

#define FS_SOCKET(f, t, p)                                                                         \
    call(FSOCKET_IOC_SOCKET,                                                                       \
         (struct fsocket_ioctl_arg){.op.socket = {(__u32)(f), (__u32)(t), (__u32)(p)}})
#define FS_LISTEN(s, n)                                                                            \
    call(FSOCKET_IOC_LISTEN, (struct fsocket_ioctl_arg){.fd = (__u32)(s), .backlog = (__u32)(n)})
#define FS_ACCEPT(s, a, l, fl)                                                                     \
    call(FSOCKET_IOC_ACCEPT,                                                                       \
         (struct fsocket_ioctl_arg){.fd = (__u32)(s), .op.accept = {(a), (l), (fl)}})
#define FS_CLOSE(s) call(FSOCKET_IOC_CLOSE, (struct fsocket_ioctl_arg){.fd = (__u32)(s)})
#define FS_SPAWN(s, c)                                                                             \
    call(FSOCKET_IOC_SPAWN_LISTEN, (struct fsocket_ioctl_arg){.fd = (__u32)(s), .op.spawn = {(c)}})
#define FS_SPAWN_ALL() call(FSOCKET_IOC_SPAWN_ALL_LISTEN, (struct fsocket_ioctl_arg){.fd = 0})
#define FS_SHUTDOWN(s, h)                                                                          \
    call(FSOCKET_IOC_SHUTDOWN_LISTEN,                                                              \
         (struct fsocket_ioctl_arg){.fd = (__u32)(s), .op.shutdown = {(h)}})

#define FAILS(expression, error)                                                                   \
    do {                                                                                           \
        errno = 0;                                                                                 \
        CHECK_IS((expression), -1);                                                                \
        CHECK_IS(errno, (error));                                                                  \
    } while (0)

/* Wait for a state; the bound only ends a failed test. */
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        int tries_ = 0;                                                                            \
        while (!(condition)) {                                                                     \
            CHECK(tries_++ < 1000 && #condition);                                                  \
            usleep(10000);                                                                         \
        }                                                                                          \
    } while (0)

static inline int listening(const char *host)
{
    int fd = bound(host);
    CHECK_IS(FS_LISTEN(fd, 512), 0);
    return fd;
}

static inline void on_core(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    CHECK_IS(sched_setaffinity(0, sizeof set, &set), 0);
}

static inline void on_any_core(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < sysconf(_SC_NPROCESSORS_CONF); i++)
        CPU_SET(i, &set);
    CHECK_IS(sched_setaffinity(0, sizeof set, &set), 0);
}

/* On loopback a SYN is handled on the core that sends it. */
static inline int client_on(int cpu, int listener)
{
    cpu_set_t before;
    CHECK_IS(sched_getaffinity(0, sizeof before, &before), 0);
    on_core(cpu);
    int fd = client_of(listener);
    CHECK_IS(sched_setaffinity(0, sizeof before, &before), 0);
    return fd;
}

/* The connection of a connect(2) that has returned may not be in the queue: wait for it. */
static inline int taken(int listener, int flags)
{
    int connection;
    UNTIL((connection = FS_ACCEPT(listener, NULL, NULL, flags)) >= 0 || errno != EAGAIN);
    return connection;
}

struct row {
    int found, live, queue;
    long own, global, adopted;
    char owners[128];
};

enum { NO_CORE = -1 };

/* The line of a core, or the line without a core for NO_CORE. */
static inline struct row row_of(int listener, int core)
{
    struct row row = {0};
    struct stat st;
    char line[512], want[16];
    FILE *file = fopen("/proc/net/fastsocket", "r");
    CHECK(file);
    CHECK_IS(fstat(listener, &st), 0);
    if (core == NO_CORE)
        snprintf(want, sizeof want, "-");
    else
        snprintf(want, sizeof want, "%d", core);
    while (fgets(line, sizeof line, file)) {
        char cpu[16], live[16];
        unsigned long inode;
        struct row r = {.found = 1};
        if (sscanf(line, "%*s %lu %15s %15s %ld %ld %ld %d %127s", &inode, cpu, live, &r.own,
                   &r.global, &r.adopted, &r.queue, r.owners) != 8 ||
            inode != st.st_ino || strcmp(cpu, want) != 0)
            continue;
        r.live = atoi(live);
        row = r;
    }
    fclose(file);
    return row;
}

static inline int readable(int fd, int milliseconds)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, milliseconds);
}

/* A child process, or 0 in the child. */
static inline pid_t forked(void)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    return pid;
}

static inline void ends_well(pid_t pid)
{
    int status;
    CHECK_IS(waitpid(pid, &status, 0), pid);
    CHECK_IS(status, 0);
}

static inline void killed(pid_t pid)
{
    int status;
    CHECK_IS(kill(pid, SIGKILL), 0);
    CHECK_IS(waitpid(pid, &status, 0), pid);
}

struct test {
    void (*run)(void);
    const char *name;
};
#define TEST(name) {name, #name}

/* Run each test in a process of its own, which leaves no descriptor; then fail if any failed. */
static inline void run_each(const struct test *tests, size_t count)
{
    int failed = 0;
    for (size_t i = 0; i < count; i++) {
        pid_t pid = forked();
        if (pid == 0) {
            alarm(slow() > 1 ? 400 : 100);
            open_device();
            int before = count_fds();
            tests[i].run();
            CHECK_IS(count_fds(), before);
            exit(0);
        }
        int status;
        CHECK_IS(waitpid(pid, &status, 0), pid);
        printf("%s %s\n", status ? "FAILED" : "ok", tests[i].name);
        fflush(stdout);
        failed += status != 0;
    }
    CHECK_IS(failed, 0);
}

#endif
