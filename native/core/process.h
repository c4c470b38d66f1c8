/* SPDX-License-Identifier: MIT
 *
 * The identity of a thread, and whether it still runs: the facts behind a claim.
 */
#ifndef FS_CORE_PROCESS_H
#define FS_CORE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Start time of a thread in clock ticks since boot; 0 if the kernel will not tell (no /proc). A
 * process id is used again, the pair with the start time is not. */
uint64_t process_start(pid_t pid, pid_t tid);

/* Whether that very thread still runs. A zombie does not: its descriptors are closed. */
bool process_alive(pid_t pid, pid_t tid, uint64_t start);

/* Whether a thread with this id still runs: good enough for the short time of a lock, although an
 * id is used again. */
bool thread_runs(uint32_t tid);

/* Whether the thread neither runs nor is about to: it is asleep in a call, or stopped. False where
 * the kernel does not tell. */
bool thread_sleeps(pid_t pid, pid_t tid);

#endif
