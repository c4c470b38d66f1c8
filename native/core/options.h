/* SPDX-License-Identifier: MIT
 *
 * Copying socket options. A slot inherits nothing from the global listener, but a connection
 * inherits from the listener that it arrived on, so a slot has to look exactly like the global
 * listener.
 */
#ifndef FS_CORE_OPTIONS_H
#define FS_CORE_OPTIONS_H

/* Copy the options that must be set before bind(2): they decide which sockets may bind where. */
int options_copy_before_bind(int from, int to);
/* Copy all other options. Options that differ are set, the others left alone: setting a buffer
 * size, even to its present value, would switch its autotuning off. */
int options_copy(int from, int to);

#endif
