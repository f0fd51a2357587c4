/* SPDX-License-Identifier: MIT */
/* /proc/PID/cgroup, mountinfo, and JSON of any form. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "container.h"
#include "json_find.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_into(struct json_value v)
{
	struct json_value one;
	char out[32];

	json_string(json_member(v, "Name"), out, sizeof(out));
	json_string(json_member(json_member(v, "annotations"), "a"), out, sizeof(out));
	for (one = json_first(v); one.at; one = json_next(one))
		json_string(json_member(one, "id"), out, sizeof(out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *exact = malloc(size + !size);
	struct cgroup place = {0};
	struct cgroup_mounts m;
	struct container c;

	if (!text || !exact)
		abort();
	memcpy(exact, data, size);
	memcpy(text, data, size);
	text[size] = 0;
	look_into(json_text(exact, size));
	if (container_parse(text, &c, &place)) {
		if (!*c.id || strlen(c.id) >= sizeof(c.id))
			abort();
		free(place.path);
	}
	if (!cgroup_mounts_parse(&m, text)) {
		memcpy(text, data, size);
		text[size] = 0;
		if (!cgroup_parse(&m, text, &place))
			free(place.path);
		if (!cgroup_named(&m, "a", text, &place))
			free(place.path);
		cgroup_mounts_free(&m);
	}
	free(text);
	free(exact);
	return 0;
}
