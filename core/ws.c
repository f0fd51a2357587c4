/* SPDX-License-Identifier: MIT */
/* From frames to messages. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ws_private.h"

#define STEP 4096
#define CONTROL_MAX 125

/* A message as it is put together. */
struct making {
	struct ws_message m;
	struct ws_utf8 utf8;
	bool unreadable; /* nothing more of it is kept */
};

struct side {
	bool finding; /* where the next frame begins is not known */
	bool joined;  /* it was; and no message has begun since */
	bool gap;     /* the next message follows something unknown */
	struct ws_held held;

	unsigned char head[WS_HEAD];
	size_t have; /* bytes of head */
	bool in_frame;
	struct ws_frame frame;
	uint64_t at;	    /* in its payload */
	struct making *to;  /* whose payload it is; NULL: nobody's */
	struct making data; /* while `open` */
	struct making control;
	bool open;
	struct ws_inflater inflater;
};

struct ws {
	struct ws_options o;
	struct ws_deflate deflate;
	struct side side[2]; /* by enum ts_dir */
};

const char *ws_opcode_name(unsigned int opcode)
{
	static const char *const names[] = {[WS_CONTINUATION] = "continuation",
					    [WS_TEXT] = "text",
					    [WS_BINARY] = "binary",
					    [WS_CLOSE] = "close",
					    [WS_PING] = "ping",
					    [WS_PONG] = "pong"};

	return opcode < TS_ARRAY_SIZE(names) && names[opcode] ? names[opcode] : "reserved";
}

unsigned int ws_close_code(const struct ws_message *m)
{
	if (m->opcode != WS_CLOSE || m->data.len < 2)
		return 0;
	return (unsigned int)m->data.data[0] << 8 | m->data.data[1];
}

bool ws_is_upgrade(const struct http_exchange *x)
{
	const char *to;

	if (x->status == 101) {
		to = http_value(&x->message[HTTP_RESP], "upgrade", NULL);
		return to && !strcasecmp(to, "websocket");
	}
	return x->protocol.data && !strcmp((const char *)x->protocol.data, "websocket") &&
	       x->status / 100 == 2;
}

static void has_problem(struct ws_message *m, const char *problem)
{
	if (!m->problem)
		m->problem = problem;
}

/* Its rest cannot be read. */
static void give_up(struct side *s, struct making *k, const char *problem)
{
	if (problem)
		has_problem(&k->m, problem);
	k->unreadable = k->m.truncated = true;
	k->m.counted &= !k->m.compressed;
	if (k->m.compressed)
		ws_inflate_forget(&s->inflater);
}

static void keep(struct ws *w, struct making *k, const unsigned char *data, size_t len)
{
	struct ws_memory *memory = w->o.memory;
	size_t max = k->m.opcode & 8 ? CONTROL_MAX : w->o.data;
	size_t room = k->m.data.len < max ? max - k->m.data.len : 0;
	size_t n = len < room ? len : room;

	if (k->m.truncated)
		return;
	if (n > memory->left || ts_buf_add(&k->m.data, data, n))
		n = 0;
	memory->left -= n;
	k->m.truncated = n < len;
}

struct inflating {
	struct ws *w;
	struct making *k;
};

static void add_plain(void *ctx, const unsigned char *data, size_t len)
{
	struct inflating *i = ctx;
	struct making *k = i->k;

	k->m.len += len;
	if (k->m.opcode == WS_TEXT)
		ws_utf8_feed(&k->utf8, data, len);
	keep(i->w, k, data, len);
}

static void add(struct ws *w, struct side *s, const unsigned char *data, size_t len)
{
	struct inflating i = {w, s->to};
	const char *problem;

	s->to->m.sent += len;
	if (s->to->unreadable) {
		s->to->m.len += len;
	} else if (!s->to->m.compressed) {
		add_plain(&i, data, len);
	} else {
		problem = ws_inflate(&s->inflater, data, len, add_plain, &i);
		if (problem)
			give_up(s, s->to, problem);
	}
}

static void check_content(struct making *k)
{
	const struct ws_message *m = &k->m;
	struct ws_utf8 reason = {0};
	unsigned int code = ws_close_code(m);

	if (m->opcode == WS_TEXT && (k->utf8.bad || (k->utf8.left && !k->unreadable)))
		has_problem(&k->m, "the text is not UTF-8");
	if (m->opcode != WS_CLOSE || m->truncated)
		return;
	if (m->len == 1 || (m->len && !ws_close_code_valid(code)))
		has_problem(&k->m, "not a code to close with");
	if (m->len > 2)
		ws_utf8_feed(&reason, m->data.data + 2, m->data.len - 2);
	if (reason.bad || reason.left)
		has_problem(&k->m, "the reason is not UTF-8");
}

static void finish(struct ws *w, struct side *s, struct making *k)
{
	struct inflating i = {w, k};
	const char *problem;

	if (k->m.compressed && !k->unreadable) {
		problem = ws_inflate_end(&s->inflater, add_plain, &i);
		if (problem)
			give_up(s, k, problem);
	}
	check_content(k);
	k->m.gap = s->gap;
	s->gap = false;
	w->o.message(w->o.ctx, &k->m);
	w->o.memory->left += k->m.data.len;
	ts_buf_free(&k->m.data);
	if (k == &s->data)
		s->open = false;
}

/* The end of what is under way will not be known. */
static void cut(struct ws *w, struct side *s, const char *problem)
{
	if (s->in_frame && s->to == &s->control) {
		give_up(s, &s->control, problem);
		s->control.m.counted = false;
		finish(w, s, &s->control);
	}
	if (s->open) {
		give_up(s, &s->data, problem);
		s->data.m.counted = false;
		finish(w, s, &s->data);
	}
	s->in_frame = false;
	s->have = 0;
}

static void drop_held(struct ws *w, struct side *s)
{
	w->o.memory->left += s->held.bytes.len;
	ts_buf_free(&s->held.bytes);
	s->held.count = 0;
}

static void lose(struct ws *w, struct side *s)
{
	cut(w, s, NULL);
	drop_held(w, s);
	/* What is missing may have been compressed: distances lead elsewhere now. */
	ws_inflate_forget(&s->inflater);
	s->finding = s->joined = s->gap = true;
}

static bool is_masking(const struct ws *w, const struct side *s)
{
	return s == &w->side[w->o.upgrade->request_dir];
}

static void begin_message(struct ws *w, struct side *s, struct making *k)
{
	const struct ws_frame *f = &s->frame;

	*k = (struct making){.m = {.dir = s == &w->side[TS_OUT] ? TS_OUT : TS_IN,
				   .opcode = f->opcode,
				   .counted = true}};
	k->m.compressed = w->deflate.on && f->rsv & 4 && !(f->opcode & 8) && f->opcode;
}

/* What the RFC says of a frame's head. */
static void check_head(const struct ws *w, struct side *s, struct making *k)
{
	const struct ws_frame *f = &s->frame;
	bool first = !(f->opcode & 8) && k->m.frames == 1 && f->opcode;

	if (ws_opcode_name(f->opcode)[0] == 'r')
		has_problem(&k->m, "a reserved opcode");
	if (f->rsv && !(f->rsv == 4 && first && k->m.compressed)) {
		give_up(s, k, "reserved bits are set");
		k->m.counted = false;
	}
	if (f->opcode & 8 && !f->fin)
		has_problem(&k->m, "a control frame in fragments");
	if (f->opcode & 8 && f->len > CONTROL_MAX)
		has_problem(&k->m, "a control frame of more than 125 bytes");
	if (f->longer)
		has_problem(&k->m, "a length in more bytes than it needs");
	if (f->masked != is_masking(w, s))
		has_problem(&k->m, f->masked ? "a server's frame is masked"
					     : "a client's frame is not masked");
}

/* The message that a frame belongs to; NULL: its beginning was not seen. */
static struct making *message_of(struct ws *w, struct side *s)
{
	bool control = s->frame.opcode & 8;

	if (control) {
		begin_message(w, s, &s->control);
		return &s->control;
	}
	if (s->frame.opcode == WS_CONTINUATION && s->open)
		return &s->data;
	if (s->frame.opcode == WS_CONTINUATION && s->joined)
		return NULL;
	if (s->open)
		cut(w, s, "another message began before its end");
	begin_message(w, s, &s->data);
	if (s->frame.opcode == WS_CONTINUATION)
		has_problem(&s->data.m, "there is nothing that it continues");
	s->open = true;
	s->joined = false;
	return &s->data;
}

static void end_frame(struct ws *w, struct side *s)
{
	s->in_frame = false;
	s->have = 0;
	if (s->to && (s->frame.fin || s->to == &s->control))
		finish(w, s, s->to);
	s->to = NULL;
}

static void begin_frame(struct ws *w, struct side *s)
{
	/* Where it ends is anybody's guess. */
	if (s->frame.len >> 63) {
		lose(w, s);
		return;
	}
	s->to = message_of(w, s);
	s->in_frame = true;
	s->at = 0;
	if (s->to) {
		s->to->m.frames++;
		check_head(w, s, s->to);
	}
	if (!s->frame.len)
		end_frame(w, s);
}

static size_t take_head(struct ws *w, struct side *s, const unsigned char *data, size_t len)
{
	size_t used = 0;

	while (used < len) {
		s->head[s->have++] = data[used++];
		if (!ws_frame_head(&s->frame, s->head, s->have))
			continue;
		begin_frame(w, s);
		break;
	}
	return used;
}

static size_t take_payload(struct ws *w, struct side *s, const unsigned char *data, size_t len)
{
	unsigned char plain[STEP];
	uint64_t left = s->frame.len - s->at;
	size_t n = len < sizeof(plain) ? len : sizeof(plain);

	n = n < left ? n : (size_t)left;
	if (s->to) {
		ws_unmask(&s->frame, s->at % 4, plain, data, n);
		add(w, s, plain, n);
	}
	s->at += n;
	if (s->at == s->frame.len)
		end_frame(w, s);
	return n;
}

static void run(struct ws *w, struct side *s, const unsigned char *data, size_t len)
{
	size_t used;

	for (; len && !s->finding; data += used, len -= used)
		used = s->in_frame ? take_payload(w, s, data, len) : take_head(w, s, data, len);
}

/* A call's bytes, where frames are looked for. */
static void search(struct ws *w, struct side *s, const unsigned char *data, size_t len)
{
	struct ws_memory *memory = w->o.memory;
	struct ts_buf found;
	size_t before = s->held.bytes.len;

	if (len > memory->left || ts_buf_add(&s->held.bytes, data, len)) {
		drop_held(w, s);
		return;
	}
	s->held.calls[s->held.count++] = before;
	s->finding = !ws_find(&s->held, is_masking(w, s), w->deflate.on);
	memory->left += before;
	memory->left -= s->held.bytes.len;
	if (s->finding)
		return;
	found = s->held.bytes;
	s->held.bytes = (struct ts_buf){0};
	s->held.count = 0;
	run(w, s, found.data, found.len);
	memory->left += found.len;
	ts_buf_free(&found);
}

static void miss(struct ws *w, struct side *s, uint64_t missing)
{
	if (s->finding || !s->in_frame || missing > s->frame.len - s->at) {
		lose(w, s);
		return;
	}
	if (s->to) {
		give_up(s, s->to, NULL);
		s->to->m.sent += missing;
		s->to->m.len += missing;
	}
	s->at += missing;
	if (s->at == s->frame.len)
		end_frame(w, s);
}

void ws_feed(struct ws *w, enum ts_dir dir, const void *data, size_t len)
{
	struct side *s = &w->side[dir];

	if (!len)
		return;
	if (!data)
		miss(w, s, len);
	else if (s->finding)
		search(w, s, data, len);
	else
		run(w, s, data, len);
}

int ws_open(struct ws **out, const struct ws_options *o)
{
	struct ws *w = calloc(1, sizeof(*w));
	enum http_side who;

	*out = w;
	if (!w)
		return -1;
	w->o = *o;
	ws_read_extensions(&w->deflate, &o->upgrade->message[HTTP_RESP]);
	for (who = HTTP_REQ; who <= HTTP_RESP; who++) {
		enum ts_dir dir =
			who == HTTP_REQ ? o->upgrade->request_dir : !o->upgrade->request_dir;

		w->side[dir].inflater = (struct ws_inflater){.takeover = w->deflate.takeover[who],
							     .bits = w->deflate.bits[who],
							     .memory = o->memory};
	}
	return 0;
}

void ws_set_data(struct ws *w, size_t data)
{
	w->o.data = data;
}

void ws_close(struct ws *w)
{
	int i;

	if (!w)
		return;
	for (i = 0; i < 2; i++) {
		cut(w, &w->side[i], NULL);
		drop_held(w, &w->side[i]);
		ws_inflate_forget(&w->side[i].inflater);
	}
	free(w);
}
