/* SPDX-License-Identifier: MIT
 *
 * How a listen table gets to where its listener went: over exec, to a process that received the
 * listener or listens on one that another process listens on already. Where the slots stay behind,
 * their queues end with the process that has them.
 */
#ifndef FS_SHIM_PASS_H
#define FS_SHIM_PASS_H

#include <sys/socket.h>

/* The environment and descriptors for the program that is about to be executed. In a vfork child
 * too: it writes nothing but what is here, on its stack. */
struct pass {
    char **envp;
    char *text;
    unsigned clear; /* FD_CLOEXEC was cleared, to be set again if there is no exec */
};

/* Bytes and pointers that pass_prepare needs in the two arrays. */
void pass_size(char *const envp[], size_t *text, size_t *pointers);
void pass_prepare(struct pass *pass, char *const envp[], char *text, size_t size, char **pointers);
void pass_failed(const struct pass *pass);

/* In the new program: take what FSOCKET_TABLES names. */
void pass_receive(void);

/* Under the lock: find the table of listener `fd` in another process. 0: it is ours too now. Where
 * that is refused, the other process is to do without it as well. */
int pass_take_over(int fd);

/* Under the lock: `fd` listens where another process's table may steer; have it count. */
void pass_join(int fd);

/* Only one process at a time may make the table of a socket that several have, or of an address at
 * which several listen: `what` names it. A descriptor to be closed, or -1 if there is no such lock
 * to be had. */
int pass_guard(const char *what);

/* A message was received: its listeners may have tables. */
void pass_message(const struct msghdr *message);

#endif
