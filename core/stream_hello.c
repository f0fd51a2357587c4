/* SPDX-License-Identifier: MIT */
/* Hellos as messages: scripts and filters need not know that they come another way. */
#include <string.h>
#include <sys/socket.h>

#include "libs.h"
#include "stream_private.h"

/* What a hello has in common with a call. */
static struct ts_data head_of(const struct ts_hello *r)
{
	struct ts_data head = {
		.record = {.size = sizeof(head), .type = TS_REC_DATA},
		.nsecs = r->nsecs,
		.subs = r->subs,
		.cgroup = r->cgroup,
		.pid = r->pid,
		.tid = r->tid,
		.ppid = r->ppid,
		.uid = r->pid ? r->uid : UINT32_MAX, /* nobody's, which no filter names */
		.gid = r->gid,
		.cpu = r->cpu,
		.fd = -1,
		.dir = r->dir,
	};

	memcpy(head.comm, r->comm, sizeof(head.comm));
	return head;
}

static struct stream_conn conn_of(const struct ts_hello *r)
{
	struct stream_conn conn = {.pid = r->pid, .opened = r->nsecs, .fd = -1};

	conn.info.family = r->family;
	conn.info.llen = conn.info.rlen = r->family == AF_INET ? 4 : 16;
	conn.info.lport = r->lport;
	conn.info.rport = r->rport;
	memcpy(conn.info.laddr, r->laddr, sizeof(r->laddr));
	memcpy(conn.info.raddr, r->raddr, sizeof(r->raddr));
	return conn;
}

void stream_hello(const struct stream_ops *ops, void *ctx, const struct ts_hello *r)
{
	static const struct stream_source source = {0, TS_P_TLS_HELLO, "", "", ""};
	struct stream_conn conn = conn_of(r);
	struct ts_data head = head_of(r);
	struct hello hello;
	struct stream_message m = {
		.head = &head,
		.source = &source,
		.conn = &conn,
		.data = r->payload,
		.size = r->len,
		.hello = &hello,
		.probes = TS_PROBE(TS_P_TLS_HELLO),
	};

	if (!hello_read(&hello, r->payload, r->len, r->flags))
		return;
	m.len = head.len = hello.size;
	m.truncated = m.size < m.len;
	ops->message(ctx, &m);
}
