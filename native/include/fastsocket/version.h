/* SPDX-License-Identifier: MIT
 *
 * The release of everything that is made from this tree: the package (pyproject.toml reads it
 * here), the core, the kernel module, dkms. Its tag is "v" followed by this text.
 */
#ifndef FASTSOCKET_VERSION_H
#define FASTSOCKET_VERSION_H

#define FS_RELEASE "0.1.0"

#endif
