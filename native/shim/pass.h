/* SPDX-License-Identifier: MIT
 *
 * How a listen table follows its listener: over exec, to a process that received the listener, or
 * to a process that listens on one that another process already listens on. If the slots stay
 * behind, their queues end with the process that has them.
 */
#ifndef FS_SHIM_PASS_H
#define FS_SHIM_PASS_H

#include <sys/socket.h>

/* The environment and descriptors for the program that is about to be executed. It may run in a
 * vfork child: it writes only to its own stack. */
struct pass {
    char **envp;
    char *text;
    unsigned clear; /* FD_CLOEXEC was cleared, and must be set again if exec fails */
};

/* Bytes and pointers that pass_prepare needs in the two arrays. */
void pass_size(char *const envp[], size_t *text, size_t *pointers);
void pass_prepare(struct pass *pass, char *const envp[], char *text, size_t size, char **pointers);
void pass_failed(const struct pass *pass);

/* In the new program: take the tables that FSOCKET_TABLES names. */
void pass_receive(void);

/* Under the lock: find the table of listener `fd` in another process. 0: it is now ours, too. If
 * that is refused, the other process must do without it as well. */
int pass_take_over(int fd);

/* Under the lock: `fd` listens where another process's table may steer; give `fd` its share. */
void pass_join(int fd);

/* Only one process at a time may make the table of a socket that several have, or of an address at
 * which several listen: `what` names it. Returns a descriptor, which the caller closes, or -1 if
 * the lock is not available. */
int pass_guard(const char *what);

/* A message was received: its listeners may have tables. */
void pass_message(const struct msghdr *message);

#endif
