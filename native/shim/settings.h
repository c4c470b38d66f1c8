/* SPDX-License-Identifier: MIT
 *
 * The settings in the FSOCKET_* environment, read once. An error names the valid values.
 */
#ifndef FS_SHIM_SETTINGS_H
#define FS_SHIM_SETTINGS_H

#include <fastsocket/fs.h>
#include <limits.h>

enum level { LOG_OFF, LOG_ERROR, LOG_INFO, LOG_DEBUG };

struct settings {
    enum fs_backend backend;
    enum fs_steer steer;
    enum pin { PIN_AUTO, PIN_ON, PIN_OFF } pin;
    bool old_pin; /* `pin` is given by its words until 0.1 */
    bool defer_accept;
    uint32_t slots;    /* 0: fs_default_slots */
    const char *ports; /* "80,443,8000-8100"; NULL: every port */
    enum level level;
    const char *log_file; /* NULL: standard error */
};

/* 0, or -EINVAL; then `wrong` names the invalid value and the valid ones. */
int settings_read(struct settings *out, char *wrong, size_t size);

bool settings_port(const struct settings *settings, unsigned port);

#endif
