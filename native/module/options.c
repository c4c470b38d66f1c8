// SPDX-License-Identifier: GPL-2.0
/*
 * A local listener has the global one's options, and so have the connections that are accepted from
 * it. That includes options that the program sets later.
 *
 * Facts: options of TCP and IP pass through ops->setsockopt, where listener.c hears of them; those
 * of SOL_SOCKET do so only since 6.6 (sock_use_custom_sol_socket, net/socket.c). Before 6.6, a
 * change of these is found when the next connection arrives, and made good on it when it is
 * accepted.
 */
#include "compat/compat.h"
#include "listener.h"

#include <linux/filter.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <net/tcp.h>

enum { COPIED_LOCKS = SOCK_SNDBUF_LOCK | SOCK_RCVBUF_LOCK };

static const enum sock_flags copied_flags[] = {
	SOCK_LINGER,   SOCK_KEEPOPEN,  SOCK_URGINLINE,	 SOCK_LOCALROUTE,
	SOCK_ZEROCOPY, SOCK_RCVTSTAMP, SOCK_RCVTSTAMPNS, SOCK_TSTAMP_NEW,
};

static void copy_before_bind(const struct sock *from, struct sock *to)
{
	to->sk_reuse = from->sk_reuse;
	to->sk_bound_dev_if = from->sk_bound_dev_if;
	to->sk_ipv6only = from->sk_ipv6only;
	compat_copy_inet_flag(FREEBIND, freebind, from, to);
	compat_copy_inet_flag(TRANSPARENT, transparent, from, to);
}

void options_before_bind(struct sock *from, struct sock *to)
{
	lock_sock(from);
	copy_before_bind(from, to);
	release_sock(from);
}

/* The options that a connection takes from its listener when it is made. */
static void copy_inherited(const struct sock *from, struct sock *to)
{
	/* A size that no program set is the system's, and left to a connection's own tuning. */
	if (from->sk_userlocks & SOCK_RCVBUF_LOCK)
		to->sk_rcvbuf = from->sk_rcvbuf;
	if (from->sk_userlocks & SOCK_SNDBUF_LOCK)
		to->sk_sndbuf = from->sk_sndbuf;
	to->sk_userlocks = (to->sk_userlocks & ~COPIED_LOCKS) | (from->sk_userlocks & COPIED_LOCKS);
	to->sk_rcvlowat = from->sk_rcvlowat;
	to->sk_rcvtimeo = from->sk_rcvtimeo;
	to->sk_sndtimeo = from->sk_sndtimeo;
	to->sk_lingertime = from->sk_lingertime;
	to->sk_max_pacing_rate = from->sk_max_pacing_rate;
	if (to->sk_max_pacing_rate != ~0UL)
		cmpxchg(&to->sk_pacing_status, SK_PACING_NONE, SK_PACING_NEEDED);
#ifdef CONFIG_NET_RX_BUSY_POLL
	to->sk_ll_usec = from->sk_ll_usec;
#endif
	for (int i = 0; i < ARRAY_SIZE(copied_flags); i++)
		sock_valbool_flag(to, copied_flags[i], sock_flag(from, copied_flags[i]));
}

static void copy_socket(const struct sock *from, struct sock *to)
{
	copy_inherited(from, to);
	to->sk_bound_dev_if = from->sk_bound_dev_if;
	to->sk_priority = from->sk_priority;
	to->sk_mark = from->sk_mark;
}

/* Whether options of SOL_SOCKET differ; `a` is the socket that they are set on. */
bool options_stale(const struct sock *a, const struct sock *b)
{
	for (int i = 0; i < ARRAY_SIZE(copied_flags); i++)
		if (sock_flag(a, copied_flags[i]) != sock_flag(b, copied_flags[i]))
			return true;
	if ((a->sk_userlocks & SOCK_RCVBUF_LOCK && a->sk_rcvbuf != b->sk_rcvbuf) ||
	    (a->sk_userlocks & SOCK_SNDBUF_LOCK && a->sk_sndbuf != b->sk_sndbuf))
		return true;
	return a->sk_rcvlowat != b->sk_rcvlowat || a->sk_rcvtimeo != b->sk_rcvtimeo ||
	       a->sk_sndtimeo != b->sk_sndtimeo || a->sk_lingertime != b->sk_lingertime ||
	       a->sk_priority != b->sk_priority || a->sk_mark != b->sk_mark ||
	       a->sk_max_pacing_rate != b->sk_max_pacing_rate ||
	       a->sk_bound_dev_if != b->sk_bound_dev_if ||
	       rcu_access_pointer(a->sk_filter) != rcu_access_pointer(b->sk_filter);
}

static void copy_ip(const struct sock *from, struct sock *to)
{
	inet_sk(to)->tos = inet_sk(from)->tos;
	inet_sk(to)->uc_ttl = inet_sk(from)->uc_ttl;
	inet_sk(to)->min_ttl = inet_sk(from)->min_ttl;
	inet_sk(to)->pmtudisc = inet_sk(from)->pmtudisc;
#if IS_ENABLED(CONFIG_IPV6)
	if (from->sk_family == AF_INET6) {
		inet6_sk(to)->tclass = inet6_sk(from)->tclass;
		inet6_sk(to)->hop_limit = inet6_sk(from)->hop_limit;
		inet6_sk(to)->min_hopcount = inet6_sk(from)->min_hopcount;
		inet6_sk(to)->pmtudisc = inet6_sk(from)->pmtudisc;
	}
#endif
}

static void copy_tcp(const struct sock *from, struct sock *to)
{
	const struct inet_connection_sock *icsk_from = inet_csk(from);
	struct inet_connection_sock *icsk_to = inet_csk(to);
	const struct tcp_sock *tcp_from = tcp_sk(from);
	struct tcp_sock *tcp_to = tcp_sk(to);

	tcp_to->nonagle = tcp_from->nonagle;
	tcp_to->keepalive_time = tcp_from->keepalive_time;
	tcp_to->keepalive_intvl = tcp_from->keepalive_intvl;
	tcp_to->keepalive_probes = tcp_from->keepalive_probes;
	tcp_to->rx_opt.user_mss = tcp_from->rx_opt.user_mss;
	tcp_to->linger2 = tcp_from->linger2;
	tcp_to->window_clamp = tcp_from->window_clamp;
	tcp_to->notsent_lowat = tcp_from->notsent_lowat;
	tcp_to->save_syn = tcp_from->save_syn;
	tcp_to->fastopen_no_cookie = tcp_from->fastopen_no_cookie;
	tcp_to->thin_lto = tcp_from->thin_lto;
	icsk_to->icsk_syn_retries = icsk_from->icsk_syn_retries;
	icsk_to->icsk_user_timeout = icsk_from->icsk_user_timeout;
	icsk_to->icsk_accept_queue.rskq_defer_accept =
		icsk_from->icsk_accept_queue.rskq_defer_accept;
	icsk_to->icsk_accept_queue.fastopenq.max_qlen =
		icsk_from->icsk_accept_queue.fastopenq.max_qlen;
}

/* Share the filter, and count it on both, as sk_filter_charge does (net/core/filter.c). */
static void copy_filter(struct sock *from, struct sock *to)
{
	struct sk_filter *filter;

	rcu_read_lock();
	filter = rcu_dereference(from->sk_filter);
	if (filter == rcu_access_pointer(to->sk_filter) ||
	    (filter && !refcount_inc_not_zero(&filter->refcnt))) {
		rcu_read_unlock();
		return;
	}
	rcu_read_unlock();
	if (rcu_access_pointer(to->sk_filter))
		sk_detach_filter(to);
	if (filter) {
		atomic_add(bpf_prog_size(filter->prog->len), &to->sk_omem_alloc);
		rcu_assign_pointer(to->sk_filter, filter);
	}
}

/* Set it by its name: the algorithm has a module of its own. */
static void copy_congestion_control(struct fs_listener *listener, struct local *local)
{
	char name[TCP_CA_NAME_MAX];
	struct sock *global = listener->global->sk;

	lock_sock(global);
	strscpy(name, inet_csk(global)->icsk_ca_ops->name, sizeof(name));
	release_sock(global);
	if (strcmp(name, inet_csk(local->sock->sk)->icsk_ca_ops->name) != 0)
		listener->base->setsockopt(local->sock, IPPROTO_TCP, TCP_CONGESTION,
					   KERNEL_SOCKPTR(name), strlen(name));
}

/* Both sockets are locked, the global one first: no other code locks two of a listener's
 * sockets. */
void options_copy(struct fs_listener *listener, struct local *local)
{
	struct sock *from = listener->global->sk, *to = local->sock->sk;

	lockdep_assert_held(&listener->lock);
	lock_sock(from);
	lock_sock_nested(to, SINGLE_DEPTH_NESTING);
	copy_socket(from, to);
	copy_ip(from, to);
	copy_tcp(from, to);
	copy_filter(from, to);
	if (to->sk_state == TCP_LISTEN)
		WRITE_ONCE(to->sk_max_ack_backlog, READ_ONCE(from->sk_max_ack_backlog));
	release_sock(to);
	release_sock(from);
	copy_congestion_control(listener, local);
}

void options_mend(struct sock *global, struct sock *connection)
{
	lock_sock(global);
	lock_sock_nested(connection, SINGLE_DEPTH_NESTING);
	copy_inherited(global, connection);
	if (connection->sk_prot->keepalive)
		connection->sk_prot->keepalive(connection, sock_flag(global, SOCK_KEEPOPEN));
	release_sock(connection);
	release_sock(global);
}

/* Keys and policies cannot be copied, and a local listener without them would let in clients that
 * the global one refuses. */
bool options_copiable(const struct sock *sk)
{
#ifdef CONFIG_TCP_MD5SIG
	if (rcu_access_pointer(tcp_sk(sk)->md5sig_info))
		return false;
#endif
#ifdef CONFIG_TCP_AO
	if (rcu_access_pointer(tcp_sk(sk)->ao_info))
		return false;
#endif
#ifdef CONFIG_XFRM
	if (rcu_access_pointer(sk->sk_policy[0]) || rcu_access_pointer(sk->sk_policy[1]))
		return false;
#endif
	return true;
}

/* Options that options_copiable() looks for, and options that would replace or copy our ops. */
bool options_refused(int level, int name)
{
	enum { AO_FIRST = 38, AO_LAST = 42 }; /* TCP_AO_ADD_KEY to TCP_AO_REPAIR, since 6.7 */

	if (level == IPPROTO_TCP)
		return name == TCP_ULP || name == TCP_MD5SIG || name == TCP_MD5SIG_EXT ||
		       (name >= AO_FIRST && name <= AO_LAST);
	if (level == IPPROTO_IP)
		return name == IP_XFRM_POLICY || name == IP_IPSEC_POLICY;
	if (level == IPPROTO_IPV6)
		return name == IPV6_XFRM_POLICY || name == IPV6_IPSEC_POLICY ||
		       name == IPV6_ADDRFORM;
	return false;
}
