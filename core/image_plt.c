/* SPDX-License-Identifier: MIT */
/* Where an entry of the procedure linkage table leads. */
#include <string.h>

#include "image_private.h"

#define MAX_ENTRIES 65536u
#define BLOCK 64u

static const struct linking *get_linking(struct image *im)
{
	struct linking *l = &im->linking;
	Elf64_Dyn d;
	size_t i;

	if (l->known)
		return l;
	l->known = true;
	for (i = 0; image_dynamic(im, i, &d); i++) {
		if (d.d_tag == DT_JMPREL)
			l->relocs = d.d_un.d_ptr;
		else if (d.d_tag == DT_PLTRELSZ)
			l->size = d.d_un.d_val;
		else if (d.d_tag == DT_PLTREL)
			l->rela = d.d_un.d_val == DT_RELA;
		else if (d.d_tag == DT_SYMTAB)
			l->symbols = d.d_un.d_ptr;
	}
	return l;
}

static uint32_t word_at(const uint8_t *code)
{
	uint32_t word;

	memcpy(&word, code, sizeof(word));
	return word;
}

/* endbr64 (or not); bnd (or not) jmp *slot(%rip) */
static uint64_t x86_slot(uint64_t addr, const uint8_t *code)
{
	size_t at = !memcmp(code, "\xf3\x0f\x1e\xfa", 4) ? 4 : 0;

	at += code[at] == 0xf2;
	if (code[at] != 0xff || code[at + 1] != 0x25)
		return 0;
	return addr + at + 6 + (uint64_t)(int32_t)word_at(code + at + 2);
}

/* bti c (or not); adrp x16, slot's page; ldr x17, [x16, slot's place there] */
static uint64_t arm64_slot(uint64_t addr, const uint8_t *code)
{
	size_t at = word_at(code) == 0xd503245f ? 4 : 0;
	uint32_t adrp = word_at(code + at), ldr = word_at(code + at + 4);
	uint64_t pages = (adrp >> 29 & 3) | (adrp >> 5 & 0x7ffff) << 2;

	if ((adrp & 0x9f00001f) != 0x90000010 || (ldr & 0xffc003ff) != 0xf9400211)
		return 0;
	pages = (pages ^ 1u << 20) - (1u << 20); /* 21 bits with a sign */
	return ((addr + at) & ~(uint64_t)0xfff) + (pages << 12) + (ldr >> 10 & 0xfff) * 8;
}

static bool symbol_of_slot(const struct image *im, const struct linking *l, uint64_t slot,
			   Elf64_Sym *s)
{
	size_t count = l->size / sizeof(Elf64_Rela), i, k, n;
	Elf64_Rela block[BLOCK];
	uint64_t number;

	for (i = 0; i < count && i < MAX_ENTRIES; i += n) {
		n = count - i < BLOCK ? count - i : BLOCK;
		if (image_read_file(im, l->relocs + i * sizeof(*block), block,
				    n * sizeof(*block)) != (ptrdiff_t)(n * sizeof(*block)))
			return false;
		for (k = 0; k < n; k++) {
			if (block[k].r_offset != slot)
				continue;
			number = ELF64_R_SYM(block[k].r_info);
			return number && image_read_file(im, l->symbols + number * sizeof(*s), s,
							 sizeof(*s)) == sizeof(*s);
		}
	}
	return false;
}

bool image_plt_target(struct image *im, uint64_t addr, uint64_t *target)
{
	const struct linking *l = get_linking(im);
	uint8_t code[16];
	uint64_t slot;
	Elf64_Sym s;

	if (!image_in_plt(im, addr) || image_read(im, addr, code, sizeof(code)) != sizeof(code))
		return false;
	slot = im->machine == EM_X86_64 ? x86_slot(addr, code) : arm64_slot(addr, code);
	if (!slot)
		return false;
	if (!l->rela || !l->symbols || !symbol_of_slot(im, l, slot, &s) || s.st_shndx == SHN_UNDEF)
		return false;
	*target = s.st_value;
	return true;
}
