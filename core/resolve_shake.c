/* SPDX-License-Identifier: MIT */
/* Where OpenSSL's connections tell of their handshakes: as the library's own accessors show. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "disasm.h"
#include "resolve_private.h"

/*
 * What an accessor gives, or what a second one gives of that. out: the argument through which the
 * first gives it; 0: it returns it.
 */
#define NEAREST (-1)
static const struct accessor {
	const char *name, *then;
	size_t member;
	int out;      /* NEAREST: one of several things that it returns */
	uint8_t size; /* where what is there has fewer bytes than the accessor takes; else 0 */
} accessors[] = {
	{"SSL_in_init", NULL, offsetof(struct ts_shake, busy), 0, 0},
	{"SSL_get_state", NULL, offsetof(struct ts_shake, state), 0, 0},
	{"SSL_version", NULL, offsetof(struct ts_shake, version), 0, 0},
	{"SSL_get_current_cipher", "SSL_CIPHER_get_protocol_id", offsetof(struct ts_shake, cipher),
	 0, 2},
	{"SSL_is_server", NULL, offsetof(struct ts_shake, server), 0, 0},
	{"SSL_session_reused", NULL, offsetof(struct ts_shake, resumed), 0, 0},
	{"SSL_get_verify_result", NULL, offsetof(struct ts_shake, verify), 0, 0},
	{"SSL_get0_alpn_selected", NULL, offsetof(struct ts_shake, alpn), 2, 0},
	{"SSL_get0_alpn_selected", NULL, offsetof(struct ts_shake, alpn_len), 3, 0},
	/* Of the connection, or of the session that goes on. */
	{"SSL_get_servername", NULL, offsetof(struct ts_shake, sni), NEAREST, 0},
	{"SSL_get_session", "SSL_SESSION_get0_hostname", offsetof(struct ts_shake, kept_sni), 0, 0},
};

/* Goes on from where *m leads as the accessor does. */
static int follow(struct image *im, const char *name, int out, struct ts_member *m,
		  struct ts_walk *zero)
{
	struct disasm_accessor a;
	struct image_symbol sym;
	uint32_t i;
	int ret;

	if (image_symbol(im, name, &sym) == IMAGE_NOWHERE)
		return -ENOENT;
	ret = out == NEAREST ? disasm_nearest(im, &sym, &a)
			     : disasm_accessor(im, &sym, (unsigned int)out, &a);
	if (ret)
		return ret;
	if (m->walk.steps + a.walk.steps > TS_WALK_STEPS)
		return -E2BIG;
	for (i = 0; i < a.walk.steps; i++)
		m->walk.offsets[m->walk.steps++] = a.walk.offsets[i];
	m->size = a.size;
	*zero = a.zero;
	return 0;
}

/*
 * A connection may be of a kind that is no TLS connection itself (QUIC, from OpenSSL 3.2 on): the
 * accessors look at its type first.
 */
static bool same_type(struct ts_shake *s, const struct ts_walk *zero)
{
	if (!s->type.size && zero->steps)
		s->type = (struct ts_member){*zero, 4};
	return !memcmp(&s->type.walk, zero, sizeof(*zero));
}

void resolve_shake(struct resolve_work *w, struct ts_shake *out)
{
	const struct accessor *a;
	struct ts_walk zero, none;
	struct ts_member m;
	size_t i;
	int ret;

	*out = (struct ts_shake){.flags = 0};
	for (i = 0; i < TS_ARRAY_SIZE(accessors); i++) {
		a = &accessors[i];
		m = (struct ts_member){.size = 0};
		ret = follow(w->im, a->name, a->out, &m, &zero);
		if (!ret && a->then)
			ret = follow(w->im, a->then, 0, &m, &none);
		w->no_memory |= ret == -ENOMEM;
		if (ret || !same_type(out, &zero)) {
			resolve_note(w, "%s: its code does not show where what it gives is",
				     a->name);
			continue;
		}
		m.size = a->size ? a->size : m.size;
		memcpy((char *)out + a->member, &m, sizeof(m));
	}
	if (!out->alpn_len.size)
		out->alpn.size = 0;
}
