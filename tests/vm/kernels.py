# SPDX-License-Identifier: MIT
"""
Debian's kernels, in the cache of tests/e2e/suites.py: fetched and verified as apt does, unpacked,
never installed.
"""
import collections
import glob
import os
import re
import shutil
import time

import suites
from harness import Skip

SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "newest": "sid"}
FRESH = 14 * 86400  # seconds until a newer one is looked for

# Modules that no guest of ours has a use for: most of what would be unpacked.
LEAVE_OUT = [f"*/kernel/{place}/*" for place in (
    "sound", "drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/net/ethernet",
    "drivers/infiniband", "drivers/scsi", "drivers/staging", "drivers/iio", "drivers/usb",
    "drivers/input", "drivers/hwmon", "drivers/target", "drivers/mtd", "drivers/md")]

# version: as `uname -r` says it. modules: its folder. no_tls: why there is no kTLS, or None.
Kernel = collections.namedtuple("Kernel", "name version image modules no_tls")


def parts(apt, arch):
    """The packages that make up a suite's kernel: a metapackage names the rest, in newer suites twice."""
    waiting, found = [f"linux-image-{arch}"], []
    while waiting:
        _, out = suites.run("apt-cache", *apt, "depends", waiting.pop())
        new = set(re.findall(r"Depends: (linux-(?:image|binary|modules|base)-\d\S*)", out))
        waiting += new - set(found)
        found += new - set(found)
    if not found:
        raise suites.Unavailable(f"its suite has no linux-image-{arch}")
    return sorted(found)


def newest_here(suite, arch):
    """The folder of the newest one that was fetched before, or None."""
    done = glob.glob(os.path.join(suites.cache(), f"linux-{suite}-{arch}-*", "complete"))
    return os.path.dirname(max(done, key=os.path.getmtime)) if done else None


def version_here(folder):
    return os.path.basename(modules_of(f"{folder}/root"))


def is_fresh(folder):
    return time.time() - os.path.getmtime(f"{folder}/complete") < FRESH


def wanted(name, arch):
    """(packages, version) of the newest that its suite has, or Unavailable."""
    packages = parts(suites.apt_of(SUITES[name], arch), arch)
    return packages, re.sub(r"^linux-[a-z]+-", "", packages[0])


def folder_of(lab, name, arch):
    """Where a kernel is unpacked, fetched if need be; Skip with the reason."""
    suite = SUITES[name]
    have = newest_here(suite, arch)
    if have and is_fresh(have):
        return have
    try:
        packages, version = wanted(name, arch)
        folder = suites.obtained(lab, f"linux-{suite}-{arch}-{version}",
                                 lambda folder: fetch(suite, arch, folder, packages, version))
    except (suites.Unavailable, Skip) as e:
        if have:
            return have
        raise Skip(str(e))
    os.utime(f"{folder}/complete")
    if have and have != folder:
        shutil.rmtree(have, ignore_errors=True)
    return folder


def fetch(suite, arch, folder, packages, version):
    if suite == "bullseye":  # without kTLS: see build_tls
        series = re.match(r"\d+\.\d+", version)[0]
        packages = [*packages, f"linux-headers-{version}", f"linux-kbuild-{series}",
                    f"linux-headers-{version.removesuffix('-' + arch)}-common",
                    f"linux-source-{series}"]
    suites.fetch(suite, arch, folder, packages, True, LEAVE_OUT)
    for archive in glob.glob(f"{folder}/root/usr/src/linux-source-*.tar.xz"):
        os.makedirs(f"{folder}/source")
        suites.or_unavailable("tar", *suites.run(
            "tar", "-xf", archive, "-C", f"{folder}/source", "--strip-components=1",
            os.path.basename(archive)[:-len(".tar.xz")] + "/net/tls"))
        os.unlink(archive)
    index(modules_of(f"{folder}/root"))


def modules_of(root):
    found = glob.glob(f"{root}/usr/lib/modules/*/kernel") + glob.glob(f"{root}/lib/modules/*/kernel")
    if not found:
        raise suites.Unavailable("its packages have no modules")
    return os.path.dirname(found[0])


def above(modules):
    """What depmod and modprobe take for the root: the folder that has lib/modules."""
    return os.path.normpath(f"{modules}/../../..")


def index(modules):
    if not shutil.which("depmod", path=TOOLS):
        raise suites.Unavailable("depmod is not installed (Debian: kmod)")
    suites.or_unavailable("depmod", *suites.run(
        "depmod", "-b", above(modules), os.path.basename(modules), env={"PATH": TOOLS}))


TOOLS = "/usr/sbin:/usr/bin:/sbin:/bin"


def get(lab, name):
    """A kernel, or Skip with the reason."""
    arch = suites.architecture()
    folder = folder_of(lab, name, arch)
    modules = modules_of(f"{folder}/root")
    version = os.path.basename(modules)
    image, = glob.glob(f"{folder}/root/boot/vmlinuz-*") or glob.glob(f"{modules}/vmlinuz")
    no_tls = None
    if os.path.exists(f"{folder}/source"):
        with suites.locked(folder):
            no_tls = build_tls(folder, modules, version)
    return Kernel(name, version, image, modules, no_tls)


# --- kTLS where Debian's configuration leaves it out

# The module counts in a member of struct net that is not there in a kernel without it.
PATCHES = [
    ("include/net/tls.h", r"\(net\)->mib\.tls_statistics", "tls_statistics"),
    ("include/net/tls.h", r"(?=#define __TLS_INC_STATS)",
     "extern struct linux_tls_mib __percpu *tls_statistics;\n"),
    ("net/tls/tls_proc.c", r"net->mib\.tls_statistics", "tls_statistics"),
    ("net/tls/tls_main.c", r"net->mib\.tls_statistics", "tls_statistics"),
    ("net/tls/tls_main.c", r"(?=static int __net_init tls_init_net)",
     "struct linux_tls_mib __percpu *tls_statistics;\n"),
    ("net/tls/tls_main.c", r"unregister_pernet_subsys\(&tls_proc_ops\)", "tls_exit_net(&init_net)"),
    ("net/tls/tls_main.c", r"register_pernet_subsys\(&tls_proc_ops\)", "tls_init_net(&init_net)"),
]


def patched(path, pattern, new):
    with open(path) as f:
        text = f.read()
    text, count = re.subn(pattern, new, text)
    if not count:
        raise suites.Unavailable(f"{path} is not what it was: no {pattern}")
    with open(path, "w") as f:
        f.write(text)


def build_tls(folder, modules, version):
    """Builds tls.ko from the suite's own source the first time; None, or why there is none."""
    if os.path.exists(f"{modules}/updates/tls.ko"):
        return None
    for program in ("gcc", "make"):
        if not shutil.which(program, path=TOOLS):
            return f"{program} is not installed"
    try:
        made = compiled_tls(folder, version)
        os.makedirs(f"{modules}/updates", exist_ok=True)
        shutil.copy(made, f"{modules}/updates/tls.ko")
        index(modules)
        for done in ("source", "build", "root/usr/src"):
            shutil.rmtree(f"{folder}/{done}")
    except (suites.Unavailable, OSError) as e:
        shutil.rmtree(f"{modules}/updates", ignore_errors=True)
        return str(e)
    return None


def compiled_tls(folder, version):
    work, tree = f"{folder}/build", f"{folder}/root/usr/src"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(tree, f"{work}/src", symlinks=True)
    shutil.copytree(f"{folder}/root/usr/lib", f"{work}/lib", symlinks=True)
    shutil.copytree(f"{folder}/source/net", f"{work}/net")
    headers = f"{work}/src/linux-headers-{version}"
    common, = glob.glob(f"{work}/src/linux-headers-*-common")
    patched(f"{headers}/Makefile", "/usr/src/", f"{work}/src/")
    for path, pattern, new in PATCHES:
        patched(f"{common}/{path}" if path.startswith("include") else f"{work}/{path}", pattern, new)
    suites.or_unavailable("it does not build", *suites.run(
        "make", "-C", headers, f"M={work}/net/tls", "CC=gcc", "CONFIG_TLS=m", "modules",
        env={"PATH": TOOLS, "LC_ALL": "C"}))
    return f"{work}/net/tls/tls.ko"
