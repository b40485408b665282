#!/bin/sh
# Makes the template cluster that every silo's database starts from, as the uncompressed archive $1/template.tar.
# It holds no secret: no password, and the agent gives each copy its own identifier and nonce.
set -eu
out=$1
bin=/usr/lib/postgresql/17/bin
work=/var/tmp/template
data=$work/pgdata

umask 077
mkdir -p "$work" "$out"
chown 10001:10001 "$work"
# initdb asks for the name of the user that runs it.
grep -q '^postgres:[^:]*:10001:' /etc/passwd 2>/dev/null ||
    { sed -i '/^postgres:/d' /etc/passwd 2>/dev/null || true; echo 'postgres:x:10001:10001::/:/bin/sh' >> /etc/passwd; chmod 644 /etc/passwd; }
as_postgres() { setpriv --reuid=10001 --regid=10001 --clear-groups env -i PATH=$bin:/usr/bin:/bin TZ=UTC LC_ALL=C "$@"; }

# Code-point order and no C library in the collation: an image upgrade can never corrupt an index. Text that needs a
# language's order names an ICU collation.
as_postgres initdb --pgdata="$data" --username=postgres --data-checksums --encoding=UTF8 --locale=C \
    --locale-provider=builtin --builtin-locale=C.UTF-8 --wal-segsize=4 --auth-local=peer --auth-host=reject \
    --no-sync --no-instructions

# One backend in single-user mode per database: no server, no socket, no port. -j: a statement ends at a semicolon and an empty line.
sql() { as_postgres postgres --single -j -D "$data" -c exit_on_error=on -c log_min_messages=warning "$1" > "$work/sql.log" 2>&1 || { cat "$work/sql.log"; exit 1; }; }
sql postgres < /build/cluster.sql
sql app < /build/app.sql
# Frozen and analysed once here, so that autovacuum finds nothing to do in a new silo.
for database in template1 postgres app; do
    printf 'VACUUM (FREEZE, ANALYZE);\n\n' | sql $database
done

as_postgres pg_checksums --check --pgdata="$data" > /dev/null
# Free space maps rebuild themselves, and there is no free space yet: an eighth of the files less to unpack.
find "$data" -name '*_fsm' -delete
# The agent writes the configuration at every start and pg_resetwal the first WAL segment.
rm -f "$data/pg_hba.conf" "$data/pg_ident.conf" "$data"/pg_wal/0*
echo '# The agent generates the configuration at every start: see /run/granary/postgresql.' > "$data/postgresql.conf"
chown 10001:10001 "$data/postgresql.conf"

tar --create --format=ustar --sort=name --owner=10001 --group=10001 --numeric-owner --mtime=@0 \
    --file="$out/template.tar" --directory="$data" .
chmod 755 "$out"
chmod 644 "$out/template.tar"
