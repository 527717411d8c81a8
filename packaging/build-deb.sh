#!/bin/sh
# Build routed_VERSION_ARCH.deb into a directory, for Debian 12: `make deb`.
#
#   packaging/build-deb.sh PYTHON OUTPUT_DIRECTORY
#
# PYTHON is CPython 3.11 with pip and setuptools; the package runs with Debian's own 3.11. dpkg-deb is
# called directly, because debhelper would not help with a private environment: its Python helpers
# install into the system's. The same commit gives the same files: times are those of the commit.
set -eu

python=$1
output=$2
cd "$(dirname "$0")/.."

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "$python is not Python 3.11, which Debian 12 has: make deb VENV=DIR PYTHON=python3.11" >&2
    exit 1
}
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
library=$root/usr/lib/routed
packages=$library/lib/python3.11/site-packages
umask 022

# --- the private environment: a virtual environment of Debian's Python

mkdir -p "$library/bin" "$packages"
cat > "$library/pyvenv.cfg" <<END
home = /usr/bin
include-system-site-packages = false
version = 3.11
END
ln -s /usr/bin/python3.11 "$library/bin/python"
pip() { "$python" -m pip --quiet --disable-pip-version-check "$@"; }
pip install --target "$packages" --no-compile --no-deps --only-binary=:all: --require-hashes \
    --requirement packaging/requirements.lock
pip wheel --wheel-dir "$work/wheel" --no-deps --no-build-isolation .
pip install --target "$packages" --no-compile --no-deps --no-index "$work"/wheel/routed-*.whl
rm -rf "$packages/bin" "$packages/share" # programs and data have their own places below
find "$packages" -name '*.so' -exec strip --strip-unneeded {} +
"$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$root" "$packages"

version=$("$python" -c 'import sys; sys.path.insert(0, sys.argv[1]); import routed; print(routed.__version__)' "$packages")

program() { # NAME MODULE
    cat > "$root/usr/bin/$1" <<END
#!/usr/lib/routed/bin/python -I
import sys

from $2 import main

sys.exit(main())
END
    chmod 755 "$root/usr/bin/$1"
}
mkdir -p "$root/usr/bin"
program routed routed.__main__
program routectl routectl.start

# --- files of the system

put() { # SOURCE DESTINATION
    install -D -m 644 "$1" "$root/$2"
}
put packaging/routes.yaml etc/routed/routes.yaml
put packaging/debian/logrotate etc/logrotate.d/routed
put packaging/debian/sysusers.conf usr/lib/sysusers.d/routed.conf
put packaging/debian/tmpfiles.conf usr/lib/tmpfiles.d/routed.conf
put configs/rt_protos.d/routed.conf etc/iproute2/rt_protos.d/routed.conf
put configs/sysctl.d/routed.conf usr/lib/sysctl.d/60-routed.conf
put docs/routectl.1 usr/share/man/man1/routectl.1
put docs/routed.8 usr/share/man/man8/routed.8
put docs/routes.yaml.5 usr/share/man/man5/routes.yaml.5
find "$root/usr/share/man" -type f -exec gzip -9n {} +
put configs/completions/routectl.bash usr/share/bash-completion/completions/routectl
put configs/completions/_routectl usr/share/zsh/vendor-completions/_routectl
put configs/completions/routectl.fish usr/share/fish/vendor_completions.d/routectl.fish
mkdir -p "$root/lib/systemd/system"
sed 's,/usr/local/bin/,/usr/bin/,; s,/etc/systemd/system/,/lib/systemd/system/,' \
    configs/routed.service > "$root/lib/systemd/system/routed.service"
documents=usr/share/doc/routed
put LICENSE $documents/copyright
put CHANGELOG.md $documents/changelog
gzip -9n "$root/$documents/changelog"
for file in README.md docs/*.md; do put "$file" "$documents/$(basename "$file")"; done
for file in configs/full.yaml configs/minimal.yaml configs/networkd-foreign-routes.conf \
    configs/routed.service.d/unprivileged.conf configs/prometheus/* docs/examples/*; do
    put "$file" "$documents/examples/$(basename "$file")"
done

# --- the package

mkdir -p "$root/DEBIAN" "$output"
arch=$(dpkg --print-architecture)
size=$(du -sk --apparent-size "$root" | cut -f1)
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/" packaging/debian/control.in \
    > "$root/DEBIAN/control"
cp packaging/debian/conffiles "$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    install -m 755 packaging/debian/$script "$root/DEBIAN/$script"
done
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) \
    > "$work/md5sums"
mv "$work/md5sums" "$root/DEBIAN/md5sums"
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
package=$output/routed_${version}_$arch.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "$package"
