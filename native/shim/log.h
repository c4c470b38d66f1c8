/* SPDX-License-Identifier: MIT
 *
 * What we tell: single lines, on standard error as it was when the program started, or in a file.
 */
#ifndef FS_SHIM_LOG_H
#define FS_SHIM_LOG_H

#include "settings.h"

/* Remember what standard error is: a server may close it and get the number for a connection. */
void log_start(const struct settings *settings);
/* The same again: the program has put something else there on purpose, by dup2(2). */
void log_look_at_stderr(void);

void log_line(enum level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
