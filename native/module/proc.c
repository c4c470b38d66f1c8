// SPDX-License-Identifier: GPL-2.0
/*
 * /proc/net/fastsocket: the listeners of the reader's network namespace, one line for each core
 * that has a local listener, and one (core `-`) for the global listener and the processes without a
 * local.
 *
 * Columns: address, inode of the global listener, core, live, connections accepted from the own
 * queue, from the global one and from others', connections that wait, process ids of the owners.
 */
#include "listener.h"

#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/seq_file_net.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>

static void show_address(struct seq_file *seq, const struct fs_listener *listener)
{
	struct sockaddr_storage address;

	if (kernel_getsockname(listener->global, (struct sockaddr *)&address) < 0)
		seq_puts(seq, "?");
	else
		seq_printf(seq, "%pISpc", &address);
	seq_printf(seq, " %llu", (u64)SOCK_INODE(listener->global)->i_ino); /* u64 since 7.1 */
}

static void show_owners(struct seq_file *seq, struct fs_listener *listener,
			const struct local *local)
{
	struct pid_namespace *namespace = proc_pid_ns(file_inode(seq->file)->i_sb);
	struct owner *owner;
	char between = ' ';

	list_for_each_entry(owner, &listener->owners, node)
		if (owner->local == local && !READ_ONCE(owner->gone)) {
			seq_printf(seq, "%c%d", between, pid_nr_ns(owner_tgid(owner), namespace));
			between = ',';
		}
	seq_puts(seq, between == ' ' ? " -\n" : "\n");
}

static void show_listener(struct fs_listener *listener, void *context)
{
	struct seq_file *seq = context;
	struct local *local;

	if (READ_ONCE(listener->global->sk->sk_state) != TCP_LISTEN)
		return;
	show_address(seq, listener);
	seq_printf(seq, " - - 0 %lld %lld %u -\n", atomic64_read(&listener->taken),
		   atomic64_read(&listener->adopted),
		   READ_ONCE(listener->global->sk->sk_ack_backlog));
	list_for_each_entry(local, &listener->locals, node) {
		show_address(seq, listener);
		seq_printf(seq, " %d %d %lld %lld %lld %u", local->cpu, local->live,
			   atomic64_read(&local->own), atomic64_read(&local->taken),
			   atomic64_read(&local->adopted),
			   READ_ONCE(local->sock->sk->sk_ack_backlog));
		show_owners(seq, listener, local);
	}
}

static int show(struct seq_file *seq, void *unused)
{
	seq_puts(seq, "address inode core live own global adopted queue owners\n");
	return listener_each(seq_file_single_net(seq), show_listener, seq);
}

static int __net_init namespace_init(struct net *net)
{
	return proc_create_net_single("fastsocket", 0444, net->proc_net, show, NULL) ? 0 : -ENOMEM;
}

static void __net_exit namespace_exit(struct net *net)
{
	remove_proc_entry("fastsocket", net->proc_net);
}

static struct pernet_operations namespaces = {
	.init = namespace_init,
	.exit = namespace_exit,
};

int proc_init(void)
{
	return register_pernet_subsys(&namespaces);
}

void proc_uninit(void)
{
	unregister_pernet_subsys(&namespaces);
}
