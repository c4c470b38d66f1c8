/* SPDX-License-Identifier: MIT */
#include "settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const backends[] = {"auto", "device", "reuseport", "off", NULL};
static const char *const steers[] = {"auto", "cpu", "spread", NULL};
/* 1 and 0 were the words until 0.1. By default the program itself decides where it runs. */
static const char *const pins[] = {"auto", "on", "off", "1", "0", NULL};
static const char *const switches[] = {"0", "1", NULL};
static const char *const levels[] = {"off", "error", "info", "debug", NULL};

/* Index of the value among `words`, `otherwise` if it is not set, -1 if it is invalid. */
static int word(const char *text, const char *const words[], int otherwise)
{
    if (!text || !*text)
        return otherwise;
    for (int i = 0; words[i]; i++)
        if (strcmp(text, words[i]) == 0)
            return i;
    return -1;
}

/* The next range of "80,443,8000-8100"; false at its end, or with *text NULL if it is invalid. */
static bool next_range(const char **text, unsigned long *first, unsigned long *last)
{
    char *end;
    if (!**text)
        return false;
    *first = *last = strtoul(*text, &end, 10);
    bool digits = end > *text && **text >= '0' && **text <= '9';
    if (digits && *end == '-' && end[1] >= '0' && end[1] <= '9')
        *last = strtoul(end + 1, &end, 10);
    if (!digits || (*end && (*end != ',' || !end[1])) || *first > *last || *last > 65535) {
        *text = NULL;
        return false;
    }
    *text = *end ? end + 1 : end;
    return true;
}

static bool ports_right(const char *text)
{
    unsigned long first, last;
    while (next_range(&text, &first, &last))
        ;
    return text != NULL;
}

bool settings_port(const struct settings *settings, unsigned port)
{
    unsigned long first, last;
    const char *text = settings->ports;
    while (text && next_range(&text, &first, &last))
        if (port >= first && port <= last)
            return true;
    return settings->ports == NULL;
}

/* FSOCKET_LOG: a level, or "level:file". */
static int log_level(struct settings *s, const char *text)
{
    char name[8];
    const char *colon = text ? strchr(text, ':') : NULL;
    size_t length = colon ? (size_t)(colon - text) : text ? strlen(text) : 0;
    if (length >= sizeof name)
        return -1;
    if (length)
        memcpy(name, text, length);
    name[length] = '\0';
    if (colon && colon[1] == '/')
        s->log_file = colon + 1;
    else if (colon)
        return -1; /* not a relative path: a server changes its directory */
    return word(name, levels, LOG_ERROR);
}

int settings_read(struct settings *s, char *wrong, size_t size)
{
    const char *names[] = {"FSOCKET_BACKEND", "FSOCKET_STEER", "FSOCKET_PIN",
                           "FSOCKET_SLOTS",   "FSOCKET_PORTS", "FSOCKET_DEFER_ACCEPT",
                           "FSOCKET_LOG"};
    char slots_right[32];
    snprintf(slots_right, sizeof slots_right, "a number from 1 to %d", FS_SLOTS_MAX);
    const char *right[] = {"auto, device, reuseport or off",
                           "auto, cpu or spread",
                           "auto, on or off",
                           slots_right,
                           "ports and ranges, for example 80,443,8000-8100",
                           "0 or 1",
                           "off, error, info or debug, and after a colon the full path of a file"};
    char *value[7], *end = NULL;
    for (int i = 0; i < 7; i++)
        value[i] = secure_getenv(names[i]);
    *s = (struct settings){.level = LOG_ERROR};
    /* The log first: it gets the errors of the others. */
    int got[7];
    got[6] = log_level(s, value[6]);
    s->level = got[6] < 0 ? LOG_ERROR : (enum level)got[6];
    got[0] = word(value[0], backends, FS_BACKEND_AUTO);
    got[1] = word(value[1], steers, FS_STEER_AUTO);
    got[2] = word(value[2], pins, PIN_OFF);
    got[3] = value[3] && *value[3] ? (int)strtol(value[3], &end, 10) : 0;
    if (end && (*end || got[3] < 1 || got[3] > FS_SLOTS_MAX || *value[3] < '0' || *value[3] > '9'))
        got[3] = -1;
    s->ports = value[4] && *value[4] ? value[4] : NULL;
    got[4] = s->ports && !ports_right(s->ports) ? -1 : 0;
    got[5] = word(value[5], switches, 0);
    for (int i = 0; i < 7; i++)
        if (got[i] < 0) {
            snprintf(wrong, size, "%s=%.40s is invalid: it must be %s", names[i], value[i],
                     right[i]);
            return -EINVAL;
        }
    s->backend = (enum fs_backend)got[0];
    s->steer = (enum fs_steer)got[1];
    s->old_pin = got[2] > PIN_OFF;
    s->pin = (enum pin)(s->old_pin ? got[2] - PIN_OFF : got[2]);
    s->slots = (uint32_t)got[3];
    s->defer_accept = got[5];
    return 0;
}
