/* SPDX-License-Identifier: MIT */
/* Where Go's crypto/tls.Conn tells of its handshake. */
#include "resolve_private.h"

/*
 * By the first and the last Go 1.N that has it so: `done` is handshakeStatus, or
 * isHandshakeComplete from 1.20 on.
 */
static const struct layout {
	int first, last;
	int32_t done, version, resumed, cipher, name, protocol;
} layouts[] = {
	{15, 19, 32, 64, 88, 90, 192, 328},  {20, 20, 32, 64, 88, 90, 216, 352},
	{21, 22, 40, 72, 97, 98, 224, 360},  {23, 24, 40, 72, 97, 100, 224, 368},
	{25, 26, 40, 72, 97, 100, 208, 352}, {27, 27, 40, 72, 97, 100, 232, 376},
};
#define IS_CLIENT 16 /* in all of them */

static struct ts_member member(int32_t offset, uint32_t size)
{
	return (struct ts_member){{1, {offset}}, size};
}

struct ts_shake resolve_go_shake(int minor)
{
	const struct layout *l;
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(layouts); i++) {
		l = &layouts[i];
		if (minor < l->first || minor > l->last)
			continue;
		return (struct ts_shake){
			.busy = member(l->done, 4),
			.version = member(l->version, 2),
			.cipher = member(l->cipher, 2),
			.server = member(IS_CLIENT, 1),
			.resumed = member(l->resumed, 1),
			.alpn = member(l->protocol, 8),
			.alpn_len = member(l->protocol + 8, 8),
			.sni = member(l->name, 8),
			.sni_len = member(l->name + 8, 8),
			.flags = TS_SHAKE_DONE | TS_SHAKE_CLIENT,
		};
	}
	return (struct ts_shake){.flags = 0};
}
