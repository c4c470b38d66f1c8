// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/fastsocket for Linux 6.1 and later: per-core listening sockets behind one descriptor, with
 * no change to the kernel.
 */
#include "listener.h"

#include <fastsocket/version.h>
#include <linux/module.h>

static const struct {
	int (*init)(void);
	void (*uninit)(void);
} parts[] = {
	{listener_init, listener_uninit},
	{owner_init, owner_uninit},
	{proc_init, proc_uninit},
	{device_init, device_uninit}, /* last: from now on the module is called */
};

static int __init fastsocket_init(void)
{
	for (int i = 0; i < ARRAY_SIZE(parts); i++) {
		int rc = parts[i].init();

		if (rc) {
			while (i-- > 0)
				parts[i].uninit();
			return rc;
		}
	}
	return 0;
}

/* Every listener holds a reference to the module, so there is none any more. */
static void __exit fastsocket_exit(void)
{
	for (int i = ARRAY_SIZE(parts) - 1; i >= 0; i--)
		parts[i].uninit();
}

module_init(fastsocket_init);
module_exit(fastsocket_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Per-core listening sockets through /dev/fastsocket");
MODULE_VERSION(FS_RELEASE);
