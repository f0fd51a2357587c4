/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What TCP connections begin with, from which user space takes ClientHello and ServerHello. Bytes
 * that leave are seen in the packet that goes to a device, bytes that come when they are copied
 * out of a packet for who receives them: both hooks are there on all kernels, and both have the
 * packet, which bpf_skb_output copies wherever its bytes are. It needs a perf buffer for that.
 *
 * Whose bytes they are: a packet can leave in an interrupt, which runs in anybody's name. But a
 * socket that is owned is worked on by its owner alone, and so the current thread is that.
 */
#include "send.h"
#include "wanted.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Who has said or received more than this is past its hello, and costs no more than to be asked. */
#define FAR (1u << 20)

struct look_key {
	__u64 sock;
	__u32 start, dir;
};

/* How far a direction was looked at. User space puts ~0 there when it needs no more of it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct look_key);
	__type(value, __u32);
} looks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} pieces SEC(".maps");

/* A packet's bytes of a connection. */
struct packet {
	struct sk_buff *skb;
	struct sock *sk;
	__u32 start, pos, len, skip;
	enum ts_dir dir;
};

static __always_inline void fill_socket(struct ts_hello *h, const struct sock_common *sk)
{
	h->family = sk->skc_family;
	h->lport = sk->skc_num;
	h->rport = __builtin_bswap16(sk->skc_dport);
	if (h->family == AF_INET) {
		bpf_core_read(h->laddr, 4, &sk->skc_rcv_saddr);
		bpf_core_read(h->raddr, 4, &sk->skc_daddr);
	} else if (h->family == AF_INET6) {
		bpf_core_read(h->laddr, 16, &sk->skc_v6_rcv_saddr);
		bpf_core_read(h->raddr, 16, &sk->skc_v6_daddr);
	}
}

static __always_inline void fill_process(struct ts_hello *h)
{
	__u64 user = current_user();

	h->tid = bpf_get_current_pid_tgid();
	h->uid = user;
	h->gid = user >> 32;
	h->cgroup = current_cgroup_id();
	h->ppid = current_parent();
	current_comm(h->comm);
}

/* Who asks for certain processes gets none that is not known. */
static __always_inline __u64 wanted_unknown(void)
{
	__u64 subs = control.hellos & control.enabled;
	int i;

#pragma unroll
	for (i = 0; i < TS_PROCESS_KEYS; i++)
		subs &= ~control.wants[i];
	return subs;
}

/* Pieces wake nobody, as that costs more than they do; who sleeps is woken by the ring. */
static __always_inline void wake_consumer(void)
{
	void *nothing = control.armed ? reserve(8) : 0;

	if (nothing)
		discard(nothing, wake_flags());
}

static __always_inline void send_packet(const struct packet *p, __u32 len)
{
	struct ts_hello h = {};
	struct ends ends;

	if (p->sk->sk_lock.owned)
		h.pid = owner();
	h.subs = h.pid ? wanted_of(control.hellos, h.pid) : wanted_unknown();
	if (h.subs & control.ends) {
		fill_ends(&ends, &p->sk->__sk_common);
		h.subs = filter_ends(h.subs, &ends);
	}
	if (!h.subs)
		return;
	h.nsecs = bpf_ktime_get_ns();
	h.sock = (__u64)p->sk;
	h.start = p->start;
	h.pos = p->pos;
	h.len = len;
	h.skip = p->skip;
	h.dir = p->dir;
	h.cpu = bpf_get_smp_processor_id();
	fill_socket(&h, &p->sk->__sk_common);
	if (h.pid)
		fill_process(&h);
	if (bpf_skb_output(p->skb, &pieces, BPF_F_CURRENT_CPU | (__u64)(p->skip + len) << 32, &h,
			   sizeof(h)))
		count(TS_CNT_LOST_EVENTS, 1);
	else
		wake_consumer();
}

/*
 * Each byte is looked at once: a packet passes several devices, the later ones in an interrupt, and
 * one that was received is copied in parts.
 */
static __always_inline int look_at(const struct packet *p)
{
	struct look_key key = {.sock = (__u64)p->sk, .start = p->start, .dir = p->dir};
	__u32 len = p->len, end, *looked;

	if (p->pos >= TS_HELLO_WINDOW)
		return 0;
	if (len > TS_HELLO_WINDOW - p->pos)
		len = TS_HELLO_WINDOW - p->pos;
	end = p->pos + len;
	looked = bpf_map_lookup_elem(&looks, &key);
	/* Whose beginning was not seen is of no use. */
	if (looked ? end <= *looked : p->pos != 0)
		return 0;
	if (looked)
		*looked = end;
	else
		bpf_map_update_elem(&looks, &key, &end, BPF_NOEXIST);
	send_packet(p, len);
	return 0;
}

/* Not of the small ones that stand in for a socket at a connection's beginning and end. */
static __always_inline bool is_tcp(const struct sock *sk)
{
	__u8 state = sk->__sk_common.skc_state;

	return state != TCP_NEW_SYN_RECV && state != TCP_TIME_WAIT && state != TCP_LISTEN &&
	       sk->sk_protocol == IPPROTO_TCP;
}

/* RFC 9293, 3.1 */
struct tcp_header {
	__be16 source, dest;
	__be32 seq, ack_seq;
	__u8 offset, flags; /* the header's length in words is in offset's upper half */
};
#define TCP_SYN 2

SEC("tp_btf/net_dev_queue")
int hello_out(__u64 *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct packet p = {.skb = skb, .sk = skb->sk, .dir = TS_OUT};
	struct tcp_sock *tcp = (void *)p.sk;
	struct tcp_header h;
	unsigned char *at;
	__u64 sent;
	__u32 seq;

	if (!p.sk || !is_tcp(p.sk))
		return 0;
	sent = BPF_CORE_READ(tcp, bytes_sent);
	if (sent > FAR)
		return 0;
	at = skb->head + skb->transport_header;
	if (bpf_probe_read_kernel(&h, sizeof(h), at))
		return 0;
	p.skip = at - skb->data + (h.offset >> 4) * 4;
	p.len = skb->len - p.skip;
	seq = __builtin_bswap32(h.seq);
	/* No data; a packet that another protocol wraps; one that is sent again. */
	if (p.skip >= skb->len || p.skip > 1024 || seq != BPF_CORE_READ(tcp, snd_nxt))
		return 0;
	sent -= BPF_CORE_READ(tcp, bytes_retrans);
	p.pos = sent - p.len;
	p.start = seq + (h.flags & TCP_SYN ? 1 : 0) - p.pos;
	return look_at(&p);
}

static __always_inline int look_at_coming(struct sk_buff *skb)
{
	struct packet p = {.skb = skb, .sk = skb->sk, .dir = TS_IN};
	struct tcp_sock *tcp = (void *)p.sk;
	__u64 received;
	__u32 seq = 0;

	if (!p.sk || !is_tcp(p.sk))
		return 0;
	received = BPF_CORE_READ(tcp, bytes_received);
	if (received > FAR)
		return 0;
	bpf_core_read(&seq, sizeof(seq), &((struct tcp_skb_cb *)skb->cb)->seq);
	p.start = BPF_CORE_READ(tcp, rcv_nxt) - (__u32)received;
	p.pos = seq - p.start;
	p.len = skb->len;
	return look_at(&p);
}

SEC("tp_btf/skb_copy_datagram_iovec")
int hello_in(__u64 *ctx)
{
	return look_at_coming((void *)ctx[0]);
}

/*
 * Since 7.0 this tracepoint can be preempted, and a program is not run where another task on the
 * same processor is in it. Then one of these is, which else find that all was looked at.
 */
SEC("tp_btf/skb_copy_datagram_iovec")
int again_in(__u64 *ctx)
{
	return look_at_coming((void *)ctx[0]);
}

SEC("tp_btf/skb_copy_datagram_iovec")
int again_in_too(__u64 *ctx)
{
	return look_at_coming((void *)ctx[0]);
}
