/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image_private.h"

#define BLOCK 1024u
#define MAX_RELOCS (16u << 20)
#define MAX_DYNAMIC 4096u

/*
 * Linkers write relocations in the order of their slots, or nearly so: then a block is read a few
 * times. A file in which they are strewn at random is not read for ever.
 */
#define MAX_LOADS 65536u

/* What the dynamic linker does, by the processor supplements of the System V ABI. */
static const struct kind {
	uint16_t machine;
	uint32_t relative, tls;
	uint32_t tcb; /* bytes at the thread pointer, before the program's TLS; 0: TLS ends there */
} kinds[] = {
	{EM_X86_64, R_X86_64_RELATIVE, R_X86_64_TPOFF64, 0},
	{EM_AARCH64, R_AARCH64_RELATIVE, R_AARCH64_TLS_TPREL, 16},
};

static const struct kind *kind_of(const struct image *im)
{
	size_t i = 0;

	while (i + 1 < TS_ARRAY_SIZE(kinds) && kinds[i].machine != im->machine)
		i++;
	return &kinds[i];
}

ptrdiff_t image_pread(const struct image *im, uint64_t offset, void *buf, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = pread(im->fd, (char *)buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ptrdiff_t)done;
}

static ptrdiff_t read_segment(const struct image *im, uint64_t addr, uint32_t flags, void *buf,
			      size_t len)
{
	const struct range *r = image_load_of(im, addr, flags);

	if (!r)
		return -ENOENT;
	if (len > r->size - (addr - r->addr))
		len = r->size - (addr - r->addr);
	return image_pread(im, r->offset + (addr - r->addr), buf, len);
}

ptrdiff_t image_read(const struct image *im, uint64_t addr, void *buf, size_t len)
{
	return read_segment(im, addr, PF_X, buf, len);
}

ptrdiff_t image_read_file(const struct image *im, uint64_t addr, void *buf, size_t len)
{
	return read_segment(im, addr, 0, buf, len);
}

bool image_segment(const struct image *im, size_t n, struct image_range *out, bool *writable)
{
	if (n >= im->loads_count)
		return false;
	*out = (struct image_range){im->loads[n].addr, im->loads[n].size};
	*writable = im->loads[n].flags & PF_W;
	return true;
}

bool image_has_sections(const struct image *im)
{
	return im->sections_names;
}

bool image_section(const struct image *im, const char *name, struct image_range *out)
{
	Elf_Scn *scn = NULL;
	const char *found;
	GElf_Shdr s;

	while (im->sections_names && (scn = elf_nextscn(im->elf, scn)) && gelf_getshdr(scn, &s)) {
		if (!(s.sh_flags & SHF_ALLOC) || s.sh_type == SHT_NOBITS ||
		    !image_in_file(im, s.sh_offset, s.sh_size))
			continue;
		found = elf_strptr(im->elf, im->sections_names, s.sh_name);
		if (found && !strcmp(found, name)) {
			*out = (struct image_range){s.sh_addr, s.sh_size};
			return true;
		}
	}
	return false;
}

void image_relocs_free(struct relocs *r)
{
	free(r->blocks);
	free(r->block);
	*r = (struct relocs){0};
}

bool image_dynamic(const struct image *im, size_t i, Elf64_Dyn *d)
{
	return i < MAX_DYNAMIC && i < im->dynamic.size / sizeof(*d) &&
	       image_pread(im, im->dynamic.offset + i * sizeof(*d), d, sizeof(*d)) == sizeof(*d) &&
	       d->d_tag != DT_NULL;
}

static int relocs_find(struct image *im)
{
	uint64_t addr = 0, size = 0, entsize = sizeof(Elf64_Rela);
	struct relocs *r = &im->relocs;
	const struct range *load;
	Elf64_Dyn d;
	size_t i;

	for (i = 0; image_dynamic(im, i, &d); i++) {
		addr = d.d_tag == DT_RELA ? d.d_un.d_ptr : addr;
		size = d.d_tag == DT_RELASZ ? d.d_un.d_val : size;
		entsize = d.d_tag == DT_RELAENT ? d.d_un.d_val : entsize;
		r->symbols = d.d_tag == DT_SYMTAB ? d.d_un.d_ptr : r->symbols;
		r->pie |= d.d_tag == DT_FLAGS_1 && d.d_un.d_val & DF_1_PIE;
		r->soname |= d.d_tag == DT_SONAME;
	}
	if (!addr || !size)
		return 0;
	load = image_load_of(im, addr, 0);
	if (!load || size > load->size - (addr - load->addr) || entsize != sizeof(Elf64_Rela) ||
	    size / sizeof(Elf64_Rela) > MAX_RELOCS)
		return -EBADMSG;
	r->offset = load->offset + (addr - load->addr);
	r->count = size / sizeof(Elf64_Rela);
	return 0;
}

static int relocs_load(struct image *im, size_t block)
{
	struct relocs *r = &im->relocs;
	size_t left = r->count - block * BLOCK, want;
	ptrdiff_t n;

	if (r->loaded_count && r->loaded == block)
		return 0;
	if (++r->loads > MAX_LOADS)
		return -EBADMSG;
	r->loaded_count = 0;
	want = (left < BLOCK ? left : BLOCK) * sizeof(*r->block);
	n = image_pread(im, r->offset + block * BLOCK * sizeof(*r->block), r->block, want);
	if (n != (ptrdiff_t)want)
		return n < 0 ? (int)n : -EBADMSG;
	r->loaded = block;
	r->loaded_count = want / sizeof(*r->block);
	return 0;
}

static size_t blocks_count(const struct relocs *r)
{
	return (r->count + BLOCK - 1) / BLOCK;
}

static int relocs_index(struct image *im)
{
	uint32_t relative = kind_of(im)->relative;
	struct relocs *r = &im->relocs;
	struct reloc_block *b;
	size_t i, j;
	int ret;

	r->blocks = calloc(blocks_count(r), sizeof(*r->blocks));
	r->block = calloc(BLOCK, sizeof(*r->block));
	if (!r->blocks || !r->block)
		return -ENOMEM;
	for (i = 0; i < blocks_count(r); i++) {
		b = &r->blocks[i];
		*b = (struct reloc_block){UINT64_MAX, 0};
		ret = relocs_load(im, i);
		if (ret)
			return ret;
		for (j = 0; j < r->loaded_count; j++) {
			if (ELF64_R_TYPE(r->block[j].r_info) != relative)
				continue;
			if (r->block[j].r_offset < b->first)
				b->first = r->block[j].r_offset;
			if (r->block[j].r_offset > b->last)
				b->last = r->block[j].r_offset;
		}
	}
	return 0;
}

static int relocs_open(struct image *im)
{
	struct relocs *r = &im->relocs;

	if (r->known)
		return r->error;
	r->known = true;
	r->error = relocs_find(im);
	if (!r->error && r->count)
		r->error = relocs_index(im);
	return r->error;
}

/* Puts the address into the part of its slot that was read. Distances wrap around, so no sum can.
 */
static void relocate(const Elf64_Rela *rel, uint64_t addr, unsigned char *buf, size_t len)
{
	uint64_t ahead = rel->r_offset - addr, behind = addr - rel->r_offset, at, skip, n;
	unsigned char value[8];
	size_t i;

	for (i = 0; i < sizeof(value); i++)
		value[i] = (unsigned char)((uint64_t)rel->r_addend >> 8 * i);
	skip = ahead < len ? 0 : behind;
	at = ahead < len ? ahead : 0;
	if (skip >= sizeof(value))
		return;
	n = sizeof(value) - skip;
	memcpy(buf + at, value + skip, n < len - at ? n : len - at);
}

ptrdiff_t image_read_data(struct image *im, uint64_t addr, void *buf, size_t len)
{
	ptrdiff_t n = read_segment(im, addr, 0, buf, len);
	struct relocs *r = &im->relocs;
	uint32_t relative = kind_of(im)->relative;
	uint64_t from, to;
	size_t i, j;
	int ret;

	if (n <= 0)
		return n;
	ret = relocs_open(im);
	from = addr < 7 ? 0 : addr - 7;
	to = addr > UINT64_MAX - (uint64_t)n ? UINT64_MAX : addr + (uint64_t)n - 1;
	for (i = 0; !ret && i < blocks_count(r); i++) {
		if (r->blocks[i].first > to || r->blocks[i].last < from)
			continue;
		ret = relocs_load(im, i);
		for (j = 0; !ret && j < r->loaded_count; j++)
			if (ELF64_R_TYPE(r->block[j].r_info) == relative)
				relocate(&r->block[j], addr, buf, (size_t)n);
	}
	return ret ? ret : n;
}

/* The value of a TLS symbol; number 0 stands for the start of the file's own TLS. */
static int tls_symbol(const struct image *im, uint64_t number, uint64_t *value)
{
	uint64_t addr = im->relocs.symbols + number * sizeof(Elf64_Sym);
	Elf64_Sym s = {0};

	*value = 0;
	if (!number)
		return 0;
	if (image_read_file(im, addr, &s, sizeof(s)) != sizeof(s))
		return -EBADMSG;
	*value = s.st_value;
	return s.st_shndx == SHN_UNDEF ? -ENOENT : 0;
}

/*
 * "ELF Handling For Thread-Local Storage" (Drepper), section 3: the program's TLS is the first of
 * all. Variant I (AArch64 ELF ABI) has it after the thread control block, variant II (x86-64 psABI)
 * right before the thread pointer; both so that it is aligned as its segment asks.
 */
static int64_t tls_offset(const struct image *im, uint64_t value)
{
	uint64_t mask = im->tls.p_align ? im->tls.p_align - 1 : 0, start;
	uint64_t tcb = kind_of(im)->tcb;

	if (tcb)
		start = tcb + ((im->tls.p_vaddr - tcb) & mask);
	else
		start = -(im->tls.p_memsz + ((-im->tls.p_vaddr - im->tls.p_memsz) & mask));
	return (int64_t)(start + value);
}

int image_tls_slot(struct image *im, uint64_t addr, int64_t *offset)
{
	struct relocs *r = &im->relocs;
	const Elf64_Rela *rel;
	uint64_t value;
	size_t i, j;
	int ret = relocs_open(im);

	/* A library that can be started has a name too (libc.so.6). */
	if (ret || im->tls.p_type != PT_TLS || im->tls.p_align & (im->tls.p_align - 1) ||
	    (im->type != ET_EXEC && !r->pie && (!im->interp || r->soname)))
		return ret ? ret : -ENOENT;
	for (i = 0; i < blocks_count(r); i++) {
		ret = relocs_load(im, i);
		for (j = 0; !ret && j < r->loaded_count; j++) {
			rel = &r->block[j];
			if (rel->r_offset != addr || ELF64_R_TYPE(rel->r_info) != kind_of(im)->tls)
				continue;
			ret = tls_symbol(im, ELF64_R_SYM(rel->r_info), &value);
			if (!ret)
				*offset = tls_offset(im, value + (uint64_t)rel->r_addend);
			return ret;
		}
		if (ret)
			return ret;
	}
	return -ENOENT;
}
