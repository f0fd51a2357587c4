/* SPDX-License-Identifier: MIT */
/*
 * Runs in a process of its own (dwarf.c). libdwarf is handed the sections, so that neither its own
 * reading of ELF files nor a file that changes meanwhile plays a part.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <dwarf.h>
#include <libdwarf.h>

#include "dwarf_private.h"

#define MAX_DIES (16u << 20) /* that one question may look at */

const char *const dwarf_sections[DWARF_SECTIONS] = {".debug_info",     ".debug_abbrev",
						    ".debug_str",      ".debug_str_offsets",
						    ".debug_line_str", ".debug_addr"};

/* libdwarf 0.1 renamed what it is handed (and began to tell its version). */
#ifdef DW_LIBDWARF_VERSION
typedef Dwarf_Obj_Access_Interface_a access_interface;
typedef Dwarf_Obj_Access_Methods_a access_methods;
typedef Dwarf_Obj_Access_Section_a access_section;
typedef Dwarf_Unsigned access_index;
typedef Dwarf_Small access_order;
#define NAME(since, before) since
#define FINISH(dbg, error) dwarf_object_finish(dbg)
#define LITTLE_ENDIAN_FILE DW_END_little
#else
typedef Dwarf_Obj_Access_Interface access_interface;
typedef Dwarf_Obj_Access_Methods access_methods;
typedef Dwarf_Obj_Access_Section access_section;
typedef Dwarf_Half access_index;
typedef Dwarf_Endianness access_order;
#define NAME(since, before) before
#define FINISH(dbg, error) dwarf_object_finish(dbg, error)
#define LITTLE_ENDIAN_FILE DW_OBJECT_LSB
#endif

struct dwarf_reader {
	struct {
		const void *data;
		size_t size;
	} sections[DWARF_SECTIONS];
	access_interface access;
	Dwarf_Debug dbg;
	Dwarf_Error error; /* what libdwarf said last; it frees it in the end */
	bool bad;	   /* the list of units is damaged: it cannot be gone through again */
	size_t dies;	   /* looked at for this question */
};

struct search {
	const struct dwarf_question *q;
	struct dwarf_answer *a;
};

/* As in ELF, the first section is none. */
static int section_info(void *obj, access_index i, access_section *out, int *error)
{
	const struct dwarf_reader *r = obj;

	(void)error;
	*out = (access_section){.NAME(as_name, name) = i ? dwarf_sections[i - 1] : ""};
	if (i)
		out->NAME(as_size, size) = r->sections[i - 1].size;
	return DW_DLV_OK;
}

static int load_section(void *obj, access_index i, Dwarf_Small **data, int *error)
{
	const struct dwarf_reader *r = obj;

	(void)error;
	*data = i ? (Dwarf_Small *)r->sections[i - 1].data : NULL;
	return *data ? DW_DLV_OK : DW_DLV_NO_ENTRY;
}

static Dwarf_Unsigned section_count(void *obj)
{
	(void)obj;
	return DWARF_SECTIONS + 1;
}

static access_order byte_order(void *obj)
{
	(void)obj;
	return LITTLE_ENDIAN_FILE;
}

static Dwarf_Small word_size(void *obj)
{
	(void)obj;
	return sizeof(uint64_t);
}

#ifdef DW_LIBDWARF_VERSION
static Dwarf_Unsigned file_size(void *obj)
{
	const struct dwarf_reader *r = obj;
	Dwarf_Unsigned sum = 0;
	size_t i;

	for (i = 0; i < DWARF_SECTIONS; i++)
		sum += r->sections[i].size;
	return sum;
}
#endif

static const access_methods methods = {
	.NAME(om_get_section_info, get_section_info) = section_info,
	.NAME(om_get_byte_order, get_byte_order) = byte_order,
	.NAME(om_get_length_size, get_length_size) = word_size,
	.NAME(om_get_pointer_size, get_pointer_size) = word_size,
	.NAME(om_get_section_count, get_section_count) = section_count,
	.NAME(om_load_section, load_section) = load_section,
#ifdef DW_LIBDWARF_VERSION
	.om_get_filesize = file_size,
#endif
};

static int status(int result)
{
	return result == DW_DLV_OK ? 0 : result == DW_DLV_NO_ENTRY ? -ENOENT : -EBADMSG;
}

/* 0: the DIE has this name; -ENOENT: another, or none. */
static int has_name(struct dwarf_reader *r, Dwarf_Die die, const char *wanted)
{
	char *name;
	int ret = status(dwarf_diename(die, &name, &r->error));

	return ret ? ret : strcmp(name, wanted) ? -ENOENT : 0;
}

/* The code of a function that is inlined elsewhere is described apart from its name. */
static int has_name_or_origin(struct dwarf_reader *r, Dwarf_Die die, const char *wanted)
{
	Dwarf_Attribute attr;
	Dwarf_Die origin;
	Dwarf_Off offset;
	int ret;

	ret = status(dwarf_attr(die, DW_AT_abstract_origin, &attr, &r->error));
	if (ret)
		return ret == -ENOENT ? has_name(r, die, wanted) : ret;
	ret = status(dwarf_global_formref(attr, &offset, &r->error));
	dwarf_dealloc_attribute(attr);
	if (!ret)
		ret = status(dwarf_offdie_b(r->dbg, offset, true, &origin, &r->error));
	if (ret)
		return ret;
	ret = has_name(r, origin, wanted);
	dwarf_dealloc_die(origin);
	return ret;
}

typedef int visit_fn(struct dwarf_reader *r, Dwarf_Die die, struct search *s);

/* The DIE after this one; a damaged file's may lie before it, or be itself. */
static int next_sibling(struct dwarf_reader *r, Dwarf_Die die, Dwarf_Die *next)
{
	Dwarf_Off here, there;
	int ret = status(dwarf_siblingof_b(r->dbg, die, true, next, &r->error));

	if (ret)
		return ret;
	ret = status(dwarf_dieoffset(die, &here, &r->error));
	if (!ret)
		ret = status(dwarf_dieoffset(*next, &there, &r->error));
	if (!ret && there > here)
		return 0;
	dwarf_dealloc_die(*next);
	return -EBADMSG;
}

/* Calls visit for each child, until one is not -ENOENT. */
static int each_child(struct dwarf_reader *r, Dwarf_Die parent, visit_fn *visit, struct search *s)
{
	Dwarf_Die die, next = NULL;
	int ret = status(dwarf_child(parent, &die, &r->error));

	while (!ret) {
		ret = ++r->dies > MAX_DIES ? -E2BIG : visit(r, die, s);
		if (ret != -ENOENT) {
			dwarf_dealloc_die(die);
			return ret;
		}
		ret = next_sibling(r, die, &next);
		dwarf_dealloc_die(die);
		die = next;
	}
	return ret;
}

static int visit_function(struct dwarf_reader *r, Dwarf_Die die, struct search *s)
{
	enum Dwarf_Form_Class class;
	Dwarf_Addr low, high;
	Dwarf_Half tag, form;
	int ret = status(dwarf_tag(die, &tag, &r->error));

	if (ret || tag != DW_TAG_subprogram)
		return ret ? ret : -ENOENT;
	/* Where it has no code, it is a declaration, or inlined everywhere, or in pieces. */
	ret = has_name_or_origin(r, die, s->q->name);
	if (!ret)
		ret = status(dwarf_lowpc(die, &low, &r->error));
	if (!ret)
		ret = status(dwarf_highpc_b(die, &high, &form, &class, &r->error));
	if (ret)
		return ret;
	if (class == DW_FORM_CLASS_ADDRESS)
		high -= low;
	s->a->value = low;
	s->a->size = high;
	return 0;
}

static int visit_member(struct dwarf_reader *r, Dwarf_Die die, struct search *s)
{
	Dwarf_Unsigned offset;
	Dwarf_Attribute attr;
	Dwarf_Half tag;
	int ret = status(dwarf_tag(die, &tag, &r->error));

	if (ret || tag != DW_TAG_member)
		return ret ? ret : -ENOENT;
	ret = has_name(r, die, s->q->member);
	if (!ret)
		ret = status(dwarf_attr(die, DW_AT_data_member_location, &attr, &r->error));
	if (ret)
		return ret;
	ret = status(dwarf_formudata(attr, &offset, &r->error));
	dwarf_dealloc_attribute(attr);
	if (!ret)
		s->a->value = offset;
	return ret;
}

static int visit_struct(struct dwarf_reader *r, Dwarf_Die die, struct search *s)
{
	Dwarf_Half tag;
	int ret = status(dwarf_tag(die, &tag, &r->error));

	if (ret || tag != DW_TAG_structure_type)
		return ret ? ret : -ENOENT;
	ret = has_name(r, die, s->q->name);
	return ret ? ret : each_child(r, die, visit_member, s);
}

/* The next compilation unit; -ENOENT at the end, after which comes the first one again. */
static int next_unit(struct dwarf_reader *r, Dwarf_Die *unit)
{
	Dwarf_Unsigned length, type_offset, next;
	Dwarf_Half version, addresses, lengths, extension, type;
	Dwarf_Off abbreviations;
	Dwarf_Sig8 signature;
	int ret;

	do {
		ret = status(dwarf_next_cu_header_d(r->dbg, true, &length, &version, &abbreviations,
						    &addresses, &lengths, &extension, &signature,
						    &type_offset, &next, &type, &r->error));
	} while (!ret && type != DW_UT_compile);
	return ret ? ret : status(dwarf_siblingof_b(r->dbg, NULL, true, unit, &r->error));
}

/* Looks in the units of the name asked for, or in all others. */
static int look_in_units(struct dwarf_reader *r, struct search *s, bool named)
{
	visit_fn *visit = s->q->member[0] ? visit_struct : visit_function;
	int ret = -ENOENT, next, is;
	Dwarf_Die unit;

	while (!(next = next_unit(r, &unit))) {
		if (ret == -ENOENT) {
			is = has_name(r, unit, s->q->unit);
			if (is == (named ? 0 : -ENOENT))
				ret = each_child(r, unit, visit, s);
			else if (is && is != -ENOENT)
				ret = is;
		}
		dwarf_dealloc_die(unit);
	}
	r->bad = next != -ENOENT;
	return r->bad ? next : ret;
}

void dwarf_reader_ask(struct dwarf_reader *r, const struct dwarf_question *q,
		      struct dwarf_answer *a)
{
	struct search s = {.q = q, .a = a};

	*a = (struct dwarf_answer){.ret = -EBADMSG};
	if (r->bad)
		return;
	r->dies = 0;
	a->ret = look_in_units(r, &s, true);
	if (a->ret == -ENOENT)
		a->ret = look_in_units(r, &s, false);
}

static int read_sections(struct dwarf_reader *r, struct image *im, uint64_t max)
{
	size_t i;
	int ret;

	for (i = 0; i < DWARF_SECTIONS; i++) {
		ret = image_debug_read(im, dwarf_sections[i], max, &r->sections[i].data,
				       &r->sections[i].size);
		if (ret && ret != -ENOENT)
			return ret;
		max -= r->sections[i].size;
	}
	return 0;
}

int dwarf_reader_open(struct dwarf_reader **out, struct image *im, uint64_t max)
{
	struct dwarf_reader *r = calloc(1, sizeof(*r));
	int ret;

	*out = NULL;
	if (!r)
		return -ENOMEM;
	r->access.NAME(ai_object, object) = r;
	r->access.NAME(ai_methods, methods) = &methods;
	ret = read_sections(r, im, max);
	if (!ret)
		ret = status(dwarf_object_init_b(&r->access, NULL, NULL, DW_GROUPNUMBER_ANY,
						 &r->dbg, &r->error));
	if (ret) {
		dwarf_reader_close(r);
		return ret;
	}
	*out = r;
	return 0;
}

void dwarf_reader_close(struct dwarf_reader *r)
{
	if (!r)
		return;
	if (r->dbg)
		FINISH(r->dbg, &r->error);
	else if (r->error)
		dwarf_dealloc_error(NULL, r->error);
	free(r);
}
