/* SPDX-License-Identifier: MIT */
#include "real.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>

enum {
#define REAL_INDEX(type, name, parameters, arguments) INDEX_##name,
    REAL_CALLS(REAL_INDEX) INDEX_closefrom,
    INDEX_fcntl,
    INDEX_syscall,
    CALLS
};

static const char *const names[CALLS] = {
#define REAL_STRING(type, name, parameters, arguments) #name,
    REAL_CALLS(REAL_STRING) "closefrom", "fcntl", "syscall"};

static _Atomic(uintptr_t) found[CALLS];

enum { MISSING = 1 };

/* With a second copy of this library in the chain, dlsym may return its symbol or ours. If it is
 * ours, libc is asked directly. */
static uintptr_t look_up(int call)
{
    Dl_info self, other;
    void *next = dlsym(RTLD_NEXT, names[call]);
    bool known = dladdr((void *)(uintptr_t)&look_up, &self) != 0;
    if (next && known && dladdr(next, &other) && other.dli_fbase == self.dli_fbase) {
        void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
        next = libc ? dlsym(libc, names[call]) : NULL;
    }
    return next ? (uintptr_t)next : MISSING;
}

static uintptr_t real(int call)
{
    uintptr_t address = atomic_load_explicit(&found[call], memory_order_relaxed);
    if (address == 0) {
        int saved = errno;
        address = look_up(call);
        atomic_store(&found[call], address);
        errno = saved;
    }
    return address;
}

void real_resolve(void)
{
    for (int call = 0; call < CALLS; call++)
        real(call);
}

#define REAL_DEFINE(type, name, parameters, arguments)                                             \
    type real_##name parameters                                                                    \
    {                                                                                              \
        uintptr_t call = real(INDEX_##name);                                                       \
        if (call == MISSING) {                                                                     \
            errno = ENOSYS;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
        return ((type(*) parameters)call)arguments;                                                \
    }
REAL_CALLS(REAL_DEFINE)

void real_closefrom(int first)
{
    uintptr_t call = real(INDEX_closefrom);
    if (call != MISSING)
        ((void (*)(int))call)(first);
}

/* fcntl's third argument is an int, a pointer or missing; all travel in one register. */
int real_fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return ((int (*)(int, int, ...))real(INDEX_fcntl))(fd, command, argument);
}

/* On our 64-bit targets one entry serves both offset sizes. */
int real_fcntl64(int fd, int command, ...) REAL_NAME(fcntl64)
    __attribute__((alias("__wrap_fcntl")));

long real_syscall(long number, ...)
{
    va_list list;
    va_start(list, number);
    long a[6];
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    return ((long (*)(long, ...))real(INDEX_syscall))(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
