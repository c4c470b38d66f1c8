/* SPDX-License-Identifier: MIT */
#include "log.h"
#include "fdtable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct settings *settings;
static struct stat stderr_was;
static bool has_stderr;
static int file = -1;

enum { OUT_OF_THE_WAY = 1000 };

void log_start(const struct settings *from)
{
    settings = from;
    log_look_at_stderr();
    if (from->log_file) {
        /* Open it now: workers may have another user, without permission to write there. */
        int fd = open(from->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
        file = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
        if (file >= 0) {
            close(fd);
            fdtable_set(file, FD_HIDDEN, NULL);
        } else {
            file = fd;
        }
        int error = errno;
        if (file < 0) {
            settings = &(struct settings){.level = LOG_ERROR};
            log_line(LOG_ERROR, "FSOCKET_LOG: %s cannot be opened: %s", from->log_file,
                     strerror(error));
            settings = from;
        }
    }
}

void log_look_at_stderr(void)
{
    has_stderr = fstat(STDERR_FILENO, &stderr_was) == 0 && !S_ISSOCK(stderr_was.st_mode);
}

static bool is_still_stderr(void)
{
    struct stat now;
    return has_stderr && fstat(STDERR_FILENO, &now) == 0 && now.st_dev == stderr_was.st_dev &&
           now.st_ino == stderr_was.st_ino;
}

void log_line(enum level level, const char *format, ...)
{
    if (!settings || level > settings->level)
        return;
    int saved = errno;
    char line[512];
    int start = snprintf(line, sizeof line, "fsocket[%d]: ", getpid());
    va_list list;
    va_start(list, format);
    vsnprintf(line + start, sizeof line - (size_t)start - 1, format, list);
    va_end(list);
    strcat(line, "\n");
    int fd = settings->log_file ? file : is_still_stderr() ? STDERR_FILENO : -1;
    if (fd >= 0 && write(fd, line, strlen(line)) < 0)
        errno = saved; /* the error cannot be reported */
    errno = saved;
}
