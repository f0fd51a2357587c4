/* SPDX-License-Identifier: MIT */
/* Programs as values of a filter: as bpf/exe.h. */
#include <errno.h>
#include <string.h>

#include "filter.h"

#define DELETED " (deleted)" /* /proc/PID/exe puts it behind a path that is no more */

static size_t length_of(const char *path)
{
	size_t len = strlen(path), end = strlen(DELETED);

	return len > end && !strcmp(path + len - end, DELETED) ? len - end : len;
}

static uint64_t hash_name(const char *name, size_t len)
{
	uint64_t hash = TS_EXE_SEED, word;
	size_t i;

	for (i = 0; i < len; i += sizeof(word)) {
		word = 0;
		memcpy(&word, name + i, len - i < sizeof(word) ? len - i : sizeof(word));
		hash = ts_exe_mix(hash, word);
	}
	return hash;
}

/* Takes the last name of the first *len bytes of a path, and leaves *len before it. */
static const char *last_name(const char *path, size_t *len, size_t *name_len)
{
	size_t end = *len;

	while (end && path[end - 1] == '/')
		end--;
	for (*len = end; *len && path[*len - 1] != '/';)
		--*len;
	*name_len = end - *len;
	return path + *len;
}

struct ts_exe ts_exe_of(const char *path)
{
	size_t len = length_of(path), name_len;
	const char *name = last_name(path, &len, &name_len);
	struct ts_exe exe = {.name = hash_name(name, name_len)};
	uint64_t hash = TS_EXE_SEED;

	if (!strchr(path, '/'))
		return exe;
	for (; name_len; name = last_name(path, &len, &name_len))
		hash = ts_exe_mix(hash, hash_name(name, name_len));
	exe.path = ts_exe_path(hash);
	return exe;
}

static bool is_dots(const char *name, size_t len)
{
	return (len == 1 || len == 2) && !strncmp(name, "..", len);
}

int ts_exe_parse(const char *value, struct ts_exe *out, struct ts_err *err)
{
	size_t len = length_of(value), name_len, count = 0;
	const char *name;

	if (strchr(value, '/') && (*value != '/' || value[len - 1] == '/'))
		return ts_fail(err, EINVAL,
			       "exe '%s' is not a program's path: write it from the root, as in "
			       "/usr/bin/curl, or its last name alone, curl",
			       value);
	while (name = last_name(value, &len, &name_len), name_len) {
		if (is_dots(name, name_len))
			return ts_fail(err, EINVAL,
				       "exe '%s': write the path without . and .., as "
				       "/proc/PID/exe shows it",
				       value);
		if (name_len > TS_EXE_NAME || ++count > TS_EXE_NAMES)
			return ts_fail(err, EINVAL,
				       "exe '%.80s' is too long: a path has at most %d names of "
				       "%d bytes; write its last name alone",
				       value, TS_EXE_NAMES, TS_EXE_NAME);
	}
	*out = ts_exe_of(value);
	return 0;
}
