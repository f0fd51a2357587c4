/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "container.h"
#include "json_find.h"

#define ID "3f4e1c0d9a21b7c65d8e0f1122334455667788990011223344556677889900aa"
#define OTHER "0000000000000000000000000000000000000000000000000000000000000000"
#define UID "5f9e2a7c-1d34-4b6a-8f00-0123456789ab"
#define UID_ "5f9e2a7c_1d34_4b6a_8f00_0123456789ab"
#define STATIC "0123456789abcdef0123456789abcdef"

static void ids_are_in_paths(void **state)
{
	static const struct {
		const char *text, *id, *runtime, *pod_uid, *place;
	} cases[] = {
		{"0::/system.slice/docker-" ID ".scope\n", ID, "docker", "",
		 "/system.slice/docker-" ID ".scope"},
		{"0::/docker/" ID "/init.scope\n", ID, "docker", "", "/docker/" ID},
		{"0::/docker/" OTHER "/docker/" ID "\n", ID, "docker", "", NULL},
		{"4:memory:/docker/" ID "\n0::/system.slice/docker.service\n", ID, "docker", "",
		 "/docker/" ID},
		{"1:name=systemd:/docker/" ID "\n4:memory:/docker/" ID "\n0::/\n", ID, "docker", "",
		 "/docker/" ID},
		{"0::/kubepods/besteffort/pod" UID "/" ID "\n", ID, "", UID, NULL},
		{"0::/kubepods/pod" UID "/" ID "\n", ID, "", UID, NULL},
		{"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" UID_
		 ".slice/cri-containerd-" ID ".scope\n",
		 ID, "containerd", UID, NULL},
		{"0::/kubepods.slice/kubepods-pod" UID_ ".slice/crio-" ID ".scope\n", ID, "cri-o",
		 UID, NULL},
		{"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" STATIC
		 ".slice/docker-" ID ".scope\n",
		 ID, "docker", STATIC, NULL},
		{"0::/system.slice/containerd.service/kubepods-burstable-pod" UID_
		 ".slice:cri-containerd:" ID "\n",
		 ID, "containerd", "", NULL},
		{"0::/../../kubepods-pod" UID_ ".slice/cri-containerd-" ID ".scope\n", ID,
		 "containerd", UID, NULL},
		{"0::/machine.slice/libpod-" ID ".scope/container\n", ID, "podman", "", NULL},
		{"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID
		 ".scope\n",
		 ID, "podman", "", NULL},
		{"0::/libpod_parent/libpod-" ID "\n", ID, "podman", "", NULL},
		{"0::/system.slice/nerdctl-" ID ".scope\n", ID, "containerd", "", NULL},
		{"0::/ecs/0123/" ID "\n", ID, "", "", NULL},
		{"0::/lxc.payload.web/system.slice/nginx.service\n", "web", "lxc", "", NULL},
		{"0::/lxc/101/ns\n", "101", "lxc", "", NULL},
		{"0::/lxc.payload/my box\n", "my box", "lxc", "", NULL},
		{"0::/machine.slice/machine-my\\x2dbox.scope/payload\n", "my-box", "systemd-nspawn",
		 "", "/machine.slice/machine-my\\x2dbox.scope"},
		{"0::/machine.slice/systemd-nspawn@box.service/payload\n", "box", "systemd-nspawn",
		 "", NULL},
		/* None: */
		{"", NULL, NULL, NULL, NULL},
		{"0::/\n", NULL, NULL, NULL, NULL},
		{"0::/user.slice/user-1000.slice/session-2.scope\n", NULL, NULL, NULL, NULL},
		{"0::/system.slice/docker.service\n", NULL, NULL, NULL, NULL},
		{"0::/machine.slice/libpod-conmon-" ID ".scope\n", NULL, NULL, NULL, NULL},
		{"0::/system.slice/crio-conmon-" ID ".scope\n", NULL, NULL, NULL, NULL},
		{"0::/machine.slice/machine-qemu\\x2d1\\x2dvm.scope\n", NULL, NULL, NULL, NULL},
		{"0::/kubepods/pod" UID "\n", NULL, NULL, NULL, NULL},
		{"0::/docker/" ID "00\n", NULL, NULL, NULL, NULL},
		{"0::/docker/short\n", NULL, NULL, NULL, NULL},
		{"0::/docker-" OTHER "x.scope\n", NULL, NULL, NULL, NULL},
		{"0::/lxc/\n", NULL, NULL, NULL, NULL},
		{"0::/::" ID "\n", NULL, NULL, NULL, NULL},
		{"0::/:", NULL, NULL, NULL, NULL},
		{"0::/machine-.scope", NULL, NULL, NULL, NULL},
	};
	struct container c;
	struct cgroup place;
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		if (container_parse(cases[i].text, &c, &place) != (cases[i].id != NULL))
			fail_msg("%s", cases[i].text);
		if (!cases[i].id) {
			assert_false(container_parse(cases[i].text, &c, NULL));
			continue;
		}
		assert_string_equal(c.id, cases[i].id);
		assert_string_equal(c.runtime, cases[i].runtime);
		assert_string_equal(c.pod_uid, cases[i].pod_uid);
		if (cases[i].place)
			assert_string_equal(place.path, cases[i].place);
		free(place.path);
	}
}

/* Only in a hierarchy without a controller: it can be told, but not filtered. */
static void a_named_hierarchy_tells(void **state)
{
	static const char text[] = "1:name=systemd:/docker/" ID "\n0::/\n";
	struct container c;
	struct cgroup place;

	(void)state;
	assert_true(container_parse(text, &c, NULL));
	assert_string_equal(c.id, ID);
	assert_false(container_parse(text, &c, &place));
}

static char root[] = "/tmp/test_container.XXXXXX";

static void put(const char *path, const char *text)
{
	char whole[1024], *slash;
	FILE *f;

	snprintf(whole, sizeof(whole), "%s%s", root, path);
	for (slash = strchr(whole + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(whole, 0700);
		*slash = '/';
	}
	f = fopen(whole, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void names(const char *text, const char *name, const char *pod, const char *namespace,
		  const char *runtime)
{
	struct container c;

	assert_true(container_parse(text, &c, NULL));
	assert_int_equal(container_read_names(root, text, &c), *name != 0);
	assert_string_equal(c.name, name);
	assert_string_equal(c.pod, pod);
	assert_string_equal(c.namespace, namespace);
	assert_string_equal(c.runtime, runtime);
}

#define TASK "/run/containerd/io.containerd.runtime.v2.task/"

static void names_are_in_files(void **state)
{
	static const char docker[] = "0::/docker/" ID "\n", podman[] = "0::/libpod-" ID ".scope\n";
	static const char cri[] = "0::/cri-containerd-" ID ".scope\n", crio[] = "0::/crio-" ID "\n";
	static const char bare[] = "0::/kubepods/pod" UID "/" ID "\n";
	char folder[512];

	(void)state;
	assert_non_null(mkdtemp(root));
	names(docker, "", "", "", "docker");
	put("/var/lib/docker/containers/" ID "/config.v2.json",
	    "{\"StreamConfig\":{},\"State\":{\"Name\":\"not this\"},\"Config\":{\"Labels\":{}},"
	    "\"Name\":\"/web\\u00fc\"}");
	names(docker, "web\xc3\xbc", "", "", "docker");
	put(TASK "k8s.io/" ID "/config.json",
	    "{\"ociVersion\":\"1.1.0\",\"process\":{\"args\":[\"a\",\"}\"]},\"annotations\": {\n"
	    "\"io.kubernetes.cri.container-type\":\"container\","
	    "\"io.kubernetes.cri.container-name\":\"web\","
	    "\"io.kubernetes.cri.sandbox-name\":\"web-0\","
	    "\"io.kubernetes.cri.sandbox-namespace\":\"shop\"}}");
	names(cri, "web", "web-0", "shop", "containerd");
	names(bare, "web", "web-0", "shop", "containerd");
	put(TASK "k8s.io/" ID "/config.json",
	    "{\"annotations\":{\"io.kubernetes.cri.sandbox-name\":\"web-0\","
	    "\"io.kubernetes.cri.sandbox-namespace\":\"shop\"}}");
	names(cri, "POD", "web-0", "shop", "containerd");
	put("/var/lib/containers/storage/overlay-containers/containers.json",
	    "[{\"id\":\"" OTHER "\",\"names\":[\"no\"]},{\"id\":\"" ID
	    "\",\"names\":[\"db\",\"x\"]}]");
	names(podman, "db", "", "", "podman");
	put("/run/containers/storage/overlay-containers/" ID "/userdata/config.json",
	    "{\"annotations\":{\"io.kubernetes.container.name\":\"api\","
	    "\"io.kubernetes.pod.name\":\"api-1\",\"io.kubernetes.pod.namespace\":\"ns\"}}");
	names(crio, "api", "api-1", "ns", "cri-o");
	/* What is no file, or no JSON, or of another, tells nothing. */
	snprintf(folder, sizeof(folder), "%s" TASK "k8s.io/" ID "/config.json", root);
	unlink(folder);
	mkdir(folder, 0700);
	names(cri, "", "", "", "containerd");
	rmdir(folder);
	assert_int_equal(mkfifo(folder, 0600), 0);
	names(cri, "", "", "", "containerd");
	unlink(folder);
	assert_int_equal(symlink("/dev/zero", folder), 0);
	names(cri, "", "", "", "containerd");
	put("/var/lib/docker/containers/" ID "/config.v2.json", "{\"Name\":[[[\"/web\"");
	names(docker, "", "", "", "docker");
	snprintf(folder, sizeof(folder), "rm -r %s", root);
	assert_int_equal(system(folder), 0);
}

static void labels(void **state)
{
	struct container c = {.id = ID};
	char out[CONTAINER_NAME];

	(void)state;
	assert_string_equal(container_label(&c, out), "3f4e1c0d9a21");
	assert_true(container_is(&c, ID));
	assert_true(container_is(&c, "3f4"));
	assert_false(container_is(&c, "3f"));
	assert_false(container_is(&c, ""));
	assert_false(container_is(&c, "web"));
	assert_false(container_is(&c, ID "0"));
	ts_copy(c.name, sizeof(c.name), "web");
	assert_string_equal(container_label(&c, out), "web");
	assert_true(container_is(&c, "web"));
	assert_false(container_is(&c, "we"));
}

static void string_of(const char *text, const char *name, const char *expected)
{
	char out[16], *copy = strdup(text);
	struct json_value v;

	assert_non_null(copy);
	v = json_member(json_text(copy, strlen(copy)), name);
	assert_int_equal(json_string(v, out, sizeof(out)), expected != NULL);
	assert_string_equal(out, expected ? expected : "");
	free(copy);
}

static void json_is_not_trusted(void **state)
{
	size_t deep = 1 << 20;
	char *text = malloc(deep + 1);

	(void)state;
	string_of("{\"a\":\"x\"}", "a", "x");
	string_of(" { \"b\" : [ {\"a\":\"no\"} , 1e9 ] , \"a\" : \"yes\" } ", "a", "yes");
	string_of("{\"b\":\"}\\\"\",\"a\":\"q\\\"\\u0041\\n\"}", "a", "q\"A\n");
	string_of("{\"aa\":\"no\",\"a\":\"\"}", "a", "");
	string_of("{\"a\":\"0123456789abcde\"}", "a", "0123456789abcde");
	string_of("{\"a\":\"0123456789abcdef\"}", "a", NULL);
	string_of("{\"a\":1}", "a", NULL);
	string_of("{\"a\":\"x", "a", NULL);
	string_of("{\"a\":\"\\u0000\"}", "a", NULL);
	string_of("{\"a\":\"\\ud800\"}", "a", NULL);
	string_of("{\"a\":\"\\x\"}", "a", NULL);
	string_of("{\"a\":\"\\", "a", NULL);
	string_of("{\"a\":\"\\u12", "a", NULL);
	string_of("{\"a\"", "a", NULL);
	string_of("{\"a", "a", NULL);
	string_of("{\"a\\", "a", NULL);
	string_of("{\"b\":]]]]", "a", NULL);
	string_of("{\"b\":,\"a\":\"x\"}", "a", "x");
	string_of("", "a", NULL);
	assert_non_null(text);
	memset(text, '[', deep);
	text[deep] = 0;
	memcpy(text, "{\"b\":", 5);
	string_of(text, "a", NULL);
	free(text);
	assert_null(json_first(json_text("[]", 2)).at);
	assert_null(json_first(json_text("[", 1)).at);
	assert_null(json_next(json_first(json_text("[1,", 3))).at);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_are_in_paths),    cmocka_unit_test(a_named_hierarchy_tells),
		cmocka_unit_test(names_are_in_files),  cmocka_unit_test(labels),
		cmocka_unit_test(json_is_not_trusted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
