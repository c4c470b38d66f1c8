/* SPDX-License-Identifier: MIT
 *
 * Copying socket options. A slot inherits nothing from the global listener, but a connection
 * inherits from the listener it arrived on, so a slot has to look exactly like it.
 */
#ifndef FS_CORE_OPTIONS_H
#define FS_CORE_OPTIONS_H

/* What must be in place before bind(2): who may bind where. */
int options_copy_before_bind(int from, int to);
/* Everything else. Options that differ are set, the others left alone: setting a buffer size, even
 * to what it is, would switch its autotuning off. */
int options_copy(int from, int to);

#endif
