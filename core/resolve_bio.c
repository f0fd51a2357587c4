/* SPDX-License-Identifier: MIT */
/*
 * OpenSSL: from a connection to its BIO, and to the descriptor in that. Where these are differs by
 * version and by build; the libraries' own accessors tell.
 */
#include <string.h>

#include "disasm.h"
#include "resolve.h"

/* What an accessor gives, if it takes `size` bytes out of a member in so many steps. */
static bool accessor(struct image *im, const char *name, uint8_t size, uint32_t steps,
		     struct disasm_accessor *out)
{
	struct image_symbol sym;

	return image_symbol(im, name, &sym) != IMAGE_NOWHERE &&
	       !disasm_accessor(im, &sym, 0, out) && out->size == size &&
	       (!steps || out->walk.steps == steps);
}

/*
 * struct bio_st holds int retry_reason, int num, void *ptr one after the other: what has an
 * accessor shows that between the first and the last there is room for just that.
 */
static bool find_number(struct image *crypto, int32_t *number)
{
	struct disasm_accessor before, after;

	if (!accessor(crypto, "BIO_get_retry_reason", 4, 1, &before) ||
	    !accessor(crypto, "BIO_get_data", 8, 1, &after))
		return false;
	*number = before.walk.offsets[0] + 4;
	return after.walk.offsets[0] == ((*number + 4 + 7) & ~7);
}

static const char *find(struct image *ssl, struct image *crypto, struct ts_bio *out)
{
	struct disasm_accessor read, write, type, name, next;

	if (!accessor(ssl, "SSL_get_rbio", 8, 0, &read) ||
	    !accessor(ssl, "SSL_get_wbio", 8, 0, &write))
		return "SSL_get_rbio and SSL_get_wbio do not show where a connection has its BIOs";
	if (!crypto)
		return "there is no libcrypto beside it";
	if (!accessor(crypto, "BIO_method_type", 4, 2, &type) ||
	    !accessor(crypto, "BIO_next", 8, 1, &next) || !find_number(crypto, &out->number))
		return "libcrypto's functions do not show where a BIO has its descriptor";
	out->zero = read.zero;
	out->read = read.walk;
	out->write = write.walk;
	out->type = type.walk;
	if (accessor(crypto, "BIO_method_name", 8, 2, &name))
		out->name = name.walk;
	out->next = next.walk.offsets[0];
	return NULL;
}

int resolve_bio(struct resolve_plan *plan, struct image *ssl, struct image *crypto)
{
	struct image_symbol sym;
	struct ts_bio bio = {.next = 0};
	bool inside = image_symbol(ssl, "BIO_method_type", &sym) != IMAGE_NOWHERE;
	const char *why = find(ssl, inside ? ssl : crypto, &bio);
	size_t i;

	for (i = 0; !why && i < plan->funcs_count; i++)
		plan->funcs[i].rule.bio = bio;
	if (why)
		return ts_buf_printf(&plan->notes, "connections' descriptors: not known: %s\n",
				     why);
	return ts_buf_printf(&plan->notes, "connections' descriptors: by SSL_get_rbio%s\n",
			     inside ? "" : " and libcrypto's BIO_method_type");
}
