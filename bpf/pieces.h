/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a message's bytes are in the kernel: struct iov_iter, a page, a pipe, piece by piece. */
#ifndef TLSSCOPE_PIECES_H
#define TLSSCOPE_PIECES_H

#include "send.h"

extern const volatile struct ts_hook hook;

enum pieces_kind {
	PIECES_NONE,   /* of a kind that cannot be read */
	PIECES_FLAT,   /* one range of user memory: `at` */
	PIECES_USER,   /* `at` is an array of struct iovec, of user memory */
	PIECES_KERNEL, /* the same, of kernel memory */
	PIECES_PAGES,  /* `at` is an array of struct bio_vec */
	PIECES_PAGE,   /* one range of a page: `at` is its struct page */
	PIECES_PIPE,   /* `at` is an array of struct pipe_buffer, a ring */
};

/* What is left: from the byte `skip` of the first piece on. */
struct pieces {
	__u64 at, skip;
	__u32 kind;	  /* enum pieces_kind */
	__u32 left;	  /* pieces in an array */
	__u32 slot, mask; /* of a ring: the first piece, and slots less 1 */
};

struct piece {
	__u64 addr, len;
	enum space space;
};

/*
 * Where the kernel sees a page: x86_64's direct mapping (arch/x86/include/asm/page_64.h and
 * pgtable_64_types.h), which is at a random place. 0 on other architectures.
 */
enum { PAGE_SHIFT = 12 };

static __always_inline __u64 page_address(__u64 page)
{
	const __u32 size = bpf_core_type_size(struct page);
	__u64 direct = 0, map = 0;

	if (!size ||
	    bpf_probe_read_kernel(&direct, sizeof(direct), (void *)hook.page_offset_base) ||
	    bpf_probe_read_kernel(&map, sizeof(map), (void *)hook.vmemmap_base) || page < map)
		return 0;
	return direct + ((page - map) / size << PAGE_SHIFT);
}

static __always_inline void set_page(struct piece *p, __u64 page, __u64 offset, __u64 len)
{
	p->addr = page_address(page);
	p->space = p->addr ? SPACE_KERNEL : SPACE_NONE;
	p->addr += offset;
	p->len = len;
}

static __always_inline __u32 iter_kind(const struct iov_iter *iter)
{
	__u32 type = 0;

	if (bpf_core_field_exists(iter->iter_type)) {
		type = BPF_CORE_READ(iter, iter_type);
		if (bpf_core_enum_value_exists(enum iter_type___ubuf, ITER_UBUF) &&
		    type == bpf_core_enum_value(enum iter_type___ubuf, ITER_UBUF))
			return PIECES_FLAT;
	} else {
		bpf_core_read(&type, sizeof(type), &((struct iov_iter___type *)iter)->type);
		type &= ~1u;
	}
	if (type == bpf_core_enum_value(enum iter_type, ITER_IOVEC))
		return PIECES_USER;
	if (type == bpf_core_enum_value(enum iter_type, ITER_KVEC))
		return PIECES_KERNEL;
	if (type == bpf_core_enum_value(enum iter_type, ITER_BVEC))
		return PIECES_PAGES;
	return PIECES_NONE;
}

/* The pieces of a message before the function that takes them has moved on in them. */
static __always_inline void get_iter(struct pieces *p, const struct iov_iter *iter)
{
	p->kind = iter_kind(iter);
	p->skip = BPF_CORE_READ(iter, iov_offset);
	p->left = BPF_CORE_READ(iter, nr_segs);
	/* One union: iov, kvec, bvec, ubuf. */
	if (bpf_core_field_exists(iter->__iov))
		p->at = (__u64)BPF_CORE_READ(iter, __iov);
	else
		bpf_core_read(&p->at, sizeof(p->at), &((struct iov_iter___iov *)iter)->iov);
}

/* The first piece of what is left; false: there is none. */
static __always_inline bool first_piece(const struct pieces *p, struct piece *out)
{
	struct bio_vec *bvec = (void *)p->at;
	struct iovec *iov = (void *)p->at;
	struct pipe_buffer *buf;

	out->space = SPACE_USER;
	switch (p->kind) {
	case PIECES_FLAT:
		out->addr = p->at;
		out->len = ~0ull;
		return true;
	case PIECES_PAGE:
		set_page(out, p->at, 0, ~0ull);
		return true;
	case PIECES_KERNEL:
		out->space = SPACE_KERNEL;
		/* fallthrough */
	case PIECES_USER:
		out->addr = (__u64)BPF_CORE_READ(iov, iov_base);
		out->len = BPF_CORE_READ(iov, iov_len);
		return p->left;
	case PIECES_PAGES:
		set_page(out, (__u64)BPF_CORE_READ(bvec, bv_page), BPF_CORE_READ(bvec, bv_offset),
			 BPF_CORE_READ(bvec, bv_len));
		return p->left;
	case PIECES_PIPE:
		buf = (void *)(p->at +
			       (p->slot & p->mask) * bpf_core_type_size(struct pipe_buffer));
		set_page(out, (__u64)BPF_CORE_READ(buf, page), BPF_CORE_READ(buf, offset),
			 BPF_CORE_READ(buf, len));
		return p->left;
	default:
		return false;
	}
}

static __always_inline void next_piece(struct pieces *p)
{
	p->skip = 0;
	p->left--;
	p->slot++;
	if (p->kind == PIECES_USER || p->kind == PIECES_KERNEL)
		p->at += bpf_core_type_size(struct iovec);
	else if (p->kind == PIECES_PAGES)
		p->at += bpf_core_type_size(struct bio_vec);
}

/*
 * Sends the next record of a call whose bytes from off on are in these pieces, and moves on.
 * Returns 1 when no more should follow. A piece without bytes makes no record.
 */
static __always_inline long send_pieces(struct sending *s, struct pieces *p, __u64 *off)
{
	__u64 left = s->want - *off, n;
	struct piece piece = {};

	if (!left)
		return send_piece(s, *off, 0, 0, SPACE_USER, 0, false);
	if (!first_piece(p, &piece))
		return send_piece(s, *off, 0, 0, SPACE_NONE, 0, false);
	if (piece.len <= p->skip) {
		next_piece(p);
		return 0;
	}
	n = piece.len - p->skip;
	n = n < left ? n : left;
	n = n < TS_CHUNK ? n : TS_CHUNK;
	if (send_piece(s, *off, n, (void *)(piece.addr + p->skip), piece.space, 0, false))
		return 1;
	*off += n;
	p->skip += n;
	return 0;
}

#endif
