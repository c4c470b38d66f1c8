/* SPDX-License-Identifier: MIT
 *
 * The exec family. A listener that survives the exec takes its slots along; a claim does not
 * survive. Everything here may run in a vfork child, so all data is on the stack.
 */
#include "pass.h"
#include "pollset.h"
#include "real.h"
#include "state.h"

#include <alloca.h>
#include <errno.h>
#include <stdarg.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static void end_claims(void)
{
    sigset_t saved;
    if (!state_mine())
        return;
    state_lock(&saved);
    pollset_suspend_all();
    state_unlock(&saved);
}

/* Run `exec`, an expression that calls libc, with `envp` set to the new program's environment. */
#define EXEC(envp, exec)                                                                           \
    do {                                                                                           \
        size_t size_, count_;                                                                      \
        struct pass pass_;                                                                         \
        pass_size(envp, &size_, &count_);                                                          \
        char *text_ = alloca(size_);                                                               \
        char **pointers_ = alloca(count_ * sizeof *pointers_);                                     \
        pass_prepare(&pass_, envp, text_, size_, pointers_);                                       \
        end_claims();                                                                              \
        envp = pass_.envp;                                                                         \
        int rc_ = exec;                                                                            \
        int error_ = errno;                                                                        \
        pass_failed(&pass_);                                                                       \
        errno = error_;                                                                            \
        return rc_;                                                                                \
    } while (0)

/* Not by their exported names: with lld, --wrap turns those into libc's in this file, too. */
static int run_path(const char *path, char *const argv[], char *const envp[])
{
    EXEC(envp, real_execve(path, argv, envp));
}

static int run_file(const char *file, char *const argv[], char *const envp[])
{
    EXEC(envp, real_execvpe(file, argv, envp));
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
    return run_path(path, argv, envp);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
    return run_file(file, argv, envp);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
    EXEC(envp, real_fexecve(fd, argv, envp));
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
    EXEC(envp, real_execveat(dir, path, argv, envp, flags));
}

EXPORT int execv(const char *path, char *const argv[])
{
    return run_path(path, argv, environ);
}

EXPORT int execvp(const char *file, char *const argv[])
{
    return run_file(file, argv, environ);
}

/* Arguments as a list, which the environment may follow: exec(3). */
static size_t count_list(va_list list)
{
    size_t count = 1;
    while (va_arg(list, char *))
        count++;
    return count;
}

static void fill_list(char **argv, const char *first, size_t count, va_list list)
{
    argv[0] = (char *)first;
    for (size_t i = 1; i <= count; i++)
        argv[i] = va_arg(list, char *);
}

#define LIST(first, exec)                                                                          \
    do {                                                                                           \
        va_list list_;                                                                             \
        va_start(list_, first);                                                                    \
        size_t count_ = count_list(list_);                                                         \
        va_end(list_);                                                                             \
        char **argv = alloca((count_ + 1) * sizeof *argv);                                         \
        va_start(list_, first);                                                                    \
        fill_list(argv, first, count_, list_);                                                     \
        char *const *envp __attribute__((unused)) = environ;                                       \
        exec;                                                                                      \
    } while (0)

EXPORT int execl(const char *path, const char *first, ...)
{
    LIST(first, va_end(list_); return run_path(path, argv, envp));
}

EXPORT int execlp(const char *file, const char *first, ...)
{
    LIST(first, va_end(list_); return run_file(file, argv, envp));
}

EXPORT int execle(const char *path, const char *first, ...)
{
    LIST(first, envp = va_arg(list_, char *const *); va_end(list_);
         return run_path(path, argv, envp));
}
