/* SPDX-License-Identifier: MIT
 *
 * The log: single lines, on standard error as it was when the program started, or in a file.
 */
#ifndef FS_SHIM_LOG_H
#define FS_SHIM_LOG_H

#include "settings.h"

/* Remember the file at standard error: a server may close it, and a connection get its number. */
void log_start(const struct settings *settings);
/* Remember standard error again: the program has replaced it on purpose, by dup2(2). */
void log_look_at_stderr(void);

void log_line(enum level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
