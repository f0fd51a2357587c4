/* SPDX-License-Identifier: MIT */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "image_private.h"

/* What comes before the data of a ".zdebug_*" section: how Go compressed before 1.19. */
struct gnu_header {
	char magic[4]; /* "ZLIB" */
	uint64_t size; /* big-endian */
} __attribute__((packed));

static bool is_gnu(const char *name)
{
	return !strncmp(name, ".zdebug_", strlen(".zdebug_"));
}

/* Whether a section called found is the one of this name: ".zdebug_info" is ".debug_info" too. */
static bool is_called(const char *found, const char *name)
{
	return is_gnu(found) ? !strcmp(found + 2, name + 1) : !strcmp(found, name);
}

static Elf_Scn *find(const struct image *im, const char *name, GElf_Shdr *s, const char **found)
{
	Elf_Scn *scn = NULL;

	while (im->sections_names && (scn = elf_nextscn(im->elf, scn))) {
		*found = gelf_getshdr(scn, s) ? elf_strptr(im->elf, im->sections_names, s->sh_name)
					      : NULL;
		if (*found && s->sh_size && s->sh_type != SHT_NOBITS &&
		    !(s->sh_flags & SHF_ALLOC) && is_called(*found, name))
			return scn;
	}
	return NULL;
}

/* How much memory the section takes: compressed or not, whichever is more. */
static int measure(const struct image *im, const GElf_Shdr *s, const char *name, uint64_t *size)
{
	struct gnu_header gnu;
	Elf64_Chdr elf;
	ptrdiff_t n;

	if (!image_in_file(im, s->sh_offset, s->sh_size))
		return -EBADMSG;
	*size = 0;
	if (s->sh_flags & SHF_COMPRESSED) {
		n = image_pread(im, s->sh_offset, &elf, sizeof(elf));
		if (n != sizeof(elf))
			return n < 0 ? -EIO : -EBADMSG;
		*size = elf.ch_size;
	} else if (is_gnu(name)) {
		n = image_pread(im, s->sh_offset, &gnu, sizeof(gnu));
		if (n != sizeof(gnu))
			return n < 0 ? -EIO : -EBADMSG;
		*size = be64toh(gnu.size);
	}
	if (*size < s->sh_size)
		*size = s->sh_size;
	return 0;
}

int image_debug_size(struct image *im, const char *name, uint64_t *size)
{
	const char *found;
	GElf_Shdr s;

	return find(im, name, &s, &found) ? measure(im, &s, found, size) : -ENOENT;
}

int image_debug_read(struct image *im, const char *name, uint64_t max, const void **data,
		     size_t *len)
{
	const char *found;
	uint64_t size;
	GElf_Shdr s;
	Elf_Scn *scn = find(im, name, &s, &found);
	Elf_Data *d;
	int ret = scn ? measure(im, &s, found, &size) : -ENOENT;

	if (ret)
		return ret;
	if (size > max)
		return -E2BIG;
	if (s.sh_flags & SHF_COMPRESSED)
		ret = elf_compress(scn, 0, 0);
	else if (is_gnu(found))
		ret = elf_compress_gnu(scn, 0, 0);
	d = ret < 0 ? NULL : elf_rawdata(scn, NULL);
	if (!d || (!d->d_buf && d->d_size))
		return -EBADMSG;
	*data = d->d_buf;
	*len = d->d_size;
	return 0;
}
