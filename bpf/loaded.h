/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a program is loaded for: constants, so that the verifier does not look at what serves
 * something else, which is half of them where little is asked for.
 */
#ifndef TLSSCOPE_LOADED_H
#define TLSSCOPE_LOADED_H

#include "maps.h"

/* Whether it is a session's (6.13). Of Go there is none. */
#ifdef SINCE_6_2
const volatile __u32 in_session SEC(".rodata.session") = 0;
#else
#define in_session false
#endif

/* What subscriptions may ask for: enum ts_ask. Where it is more, another program takes over. */
const volatile __u32 asked SEC(".rodata.asked") = TS_ASK_ALL;

static __always_inline bool is_of_go(const struct ts_rule *rule)
{
	return !in_session && rule->flow_mode == TS_FLOW_GO;
}

/* The subscriptions that want to know how handshakes and calls end. */
static __always_inline __u64 outcome_subs(void)
{
	return asked & TS_ASK_OUTCOMES ? control.opens | control.fails : 0;
}

/* Those that name ports or addresses. */
static __always_inline __u64 socket_subs(void)
{
	return asked & TS_ASK_SOCKETS ? control.ends : 0;
}

/* Those that are aggregations. */
static __always_inline __u64 agg_subs(void)
{
	return asked & TS_ASK_AGGS ? control.aggs : 0;
}

/* Those that want a call's connection: all that are not aggregations without its addresses. */
static __always_inline __u64 conn_subs(void)
{
	return ~agg_subs() | control.aggs_ends | socket_subs();
}

/* Those that ask something of a call. */
static __always_inline __u64 pick_subs(void)
{
	return asked & TS_ASK_PICKS ? control.picks : 0;
}

#endif
