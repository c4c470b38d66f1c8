/* SPDX-License-Identifier: MIT
 *
 * The release, for everything that is made of this tree: the package (pyproject.toml reads it
 * here), the core, the kernel module, dkms. Its tag is v and this.
 */
#ifndef FASTSOCKET_VERSION_H
#define FASTSOCKET_VERSION_H

#define FS_RELEASE "0.1.0"

#endif
