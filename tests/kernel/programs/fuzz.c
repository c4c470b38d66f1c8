/* SPDX-License-Identifier: MIT
 *
 * SEED, SECONDS: eight processes, two threads each, call ioctls with random commands, descriptors,
 * pointers and values. Whatever the device answers, the kernel must go on.
 */
#include "device.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { PROCESSES = 8, FDS = 40 };

static unsigned draw(unsigned *seed, unsigned below)
{
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 9) % below;
}

static void *random_pointer(unsigned *seed, char *page)
{
    switch (draw(seed, 7)) {
    case 0:
        return NULL;
    case 1:
        return (void *)(unsigned long)draw(seed, 4096);
    case 2:
        return (void *)(0xffff800000000000ul + draw(seed, 1 << 20)); /* a kernel address */
    case 3:
        return page + 4096 - draw(seed, 40); /* partly unmapped */
    default:
        return page + draw(seed, 4000);
    }
}

static __u32 random_value(unsigned *seed)
{
    static const __u32 odd[] = {0, 1, 0xffffffff, 0x7fffffff, 0x80000000, 65536, SOCK_CLOEXEC};
    return draw(seed, 3) ? draw(seed, 8) : odd[draw(seed, 7)];
}

/* A descriptor that is not one of the first, which the test needs itself. */
static __u32 random_fd(unsigned *seed)
{
    return draw(seed, 20) ? 4 + draw(seed, FDS) : 100 + random_value(seed) % 0x7fffff00;
}

struct part {
    unsigned seed;
    time_t end;
};

static void *fuzz(void *context)
{
    struct part *part = context;
    unsigned *seed = &part->seed;
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    CHECK_IS(munmap(page + 4096, 4096), 0);
    while (time(NULL) < part->end)
        for (int i = 0; i < 100; i++) {
            struct fsocket_ioctl_arg arg;
            for (size_t word = 0; word < sizeof arg / 4; word++)
                ((__u32 *)&arg)[word] = random_value(seed);
            arg.fd = random_fd(seed);
            unsigned long command =
                draw(seed, 10) ? _IO(FSOCKET_IOC_TYPE, 1 + draw(seed, 8)) : draw(seed, 0xffffffff);
            if (command == FSOCKET_IOC_ACCEPT) {
                arg.op.accept.sockaddr = random_pointer(seed, page);
                arg.op.accept.sockaddr_len = random_pointer(seed, page);
            } else if (command == FSOCKET_IOC_SOCKET && draw(seed, 2)) {
                arg.op.socket.family = draw(seed, 3) ? AF_INET : AF_INET6;
                arg.op.socket.type = SOCK_STREAM | SOCK_NONBLOCK;
                arg.op.socket.protocol = 0;
            } else if (command == FSOCKET_IOC_CLOSE && draw(seed, 3)) {
                continue;
            }
            ioctl(device, command, draw(seed, 8) ? (void *)&arg : random_pointer(seed, page));
            if (draw(seed, 5) == 0) { /* use the sockets as a program does */
                struct pollfd p = {.fd = (int)random_fd(seed), .events = POLLIN};
                poll(&p, 1, 0);
                fcntl(p.fd, F_SETFL, O_NONBLOCK);
                struct sockaddr_storage name;
                socklen_t length = sizeof name;
                if (getsockname(p.fd, (struct sockaddr *)&name, &length) == 0 &&
                    name.ss_family != AF_UNIX)
                    connect((int)random_fd(seed), (struct sockaddr *)&name, length);
            }
        }
    munmap(page, 4096);
    return NULL;
}

static void run(void)
{
    time_t end = time(NULL) + atoi(getenv("SECONDS"));
    unsigned seed = (unsigned)atoi(getenv("SEED"));
    pid_t pids[PROCESSES];
    open_device();
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = forked();
        if (pids[i] != 0)
            continue;
        struct rlimit few = {64, 64};
        setrlimit(RLIMIT_NOFILE, &few);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm((unsigned)atoi(getenv("SECONDS")) + 5); /* a blocking accept may wait for ever */
        struct part parts[2] = {{seed + 2 * (unsigned)i, end}, {seed + 2 * (unsigned)i + 1, end}};
        pthread_t thread;
        CHECK_IS(pthread_create(&thread, NULL, fuzz, &parts[0]), 0);
        fuzz(&parts[1]);
        pthread_join(thread, NULL);
        _exit(0);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        CHECK_IS(waitpid(pids[i], &status, 0), pids[i]);
        CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM));
    }
    close(device);
}
