#!/bin/sh
# Collects PostgreSQL 17 and exactly the files it needs into the folder $1, which becomes the image.
set -eu
root=$1
pg=/usr/lib/postgresql/17

if [ ! -x $pg/bin/postgres ]; then
    apt-get update
    apt-get install --yes --no-install-recommends postgresql-17
fi

mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/usr/share/postgresql" "$root$pg/bin" "$root$pg/lib" \
    "$root/etc" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" \
    "$root/run/granary/postgresql" "$root/run/granary/tls" "$root/var/lib/granary/postgresql"
chmod 1777 "$root/tmp"
ln -s usr/bin "$root/bin"
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"

# The server and the tools that an agent or a person at the pod may need.
for tool in postgres initdb pg_amcheck pg_basebackup pg_checksums pg_controldata pg_ctl pg_dump pg_isready \
    pg_resetwal pg_restore pg_verifybackup pg_waldump psql; do
    cp "$pg/bin/$tool" "$root$pg/bin/"
done

# Extensions, without the JIT compiler (130 MB of LLVM), SELinux labels and XSLT, whose libraries are not shipped.
for module in "$pg"/lib/*.so; do
    case $(basename "$module" .so) in
        llvmjit | sepgsql | pgxml) ;;
        *) cp "$module" "$root$pg/lib/" ;;
    esac
done
cp -R /usr/share/postgresql/17 "$root/usr/share/postgresql/"
rm -rf "$root/usr/share/postgresql/17/man" "$root/usr/share/postgresql/17/extension"/sepgsql* \
    "$root/usr/share/postgresql/17/extension"/xml2*
cp -R /usr/share/zoneinfo "$root/usr/share/"

# Every shared library that those name, directly or not, and the loader. libgcc_s is the agent's.
find "$root$pg" -type f \( -perm -u+x -o -name '*.so' \) -exec ldd {} + |
    sed -n -e 's/.*=> \(\/[^ ]*\).*/\1/p' -e 's/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' |
    { cat; ls /lib/*-linux-gnu/libgcc_s.so.1; } | sort -u |
    while read -r library; do
        # /lib and /lib64 are links to below /usr on Debian, and in the image.
        target=$root/usr${library#/usr}
        mkdir -p "$(dirname "$target")"
        cp -L "$library" "$target"
    done

# Identities: PostgreSQL wants a name for the user it runs as, and peer authentication compares it.
echo 'postgres:x:10001:10001::/var/lib/granary/postgresql:/sbin/nologin' > "$root/etc/passwd"
echo 'postgres:x:10001:' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
cp /etc/os-release "$root/etc/os-release" 2>/dev/null || true

# Everything is there that the programs are linked with.
for tool in "$root$pg"/bin/*; do
    chroot "$root" "$pg/bin/$(basename "$tool")" --version > /dev/null
done
