-- The audit: who did what, as a chain of rows that only grows.
--
-- Each row carries the hash of the row before it, and its own hash over that and all its fields. The only way in is
-- the function `audit_append`, which decides sequence, time and hashes itself, one writer after the other: whoever
-- has the role `app` can add a row at the end and do nothing else. What somebody with more rights changes is found by
-- recomputing the chain (`granary audit verify`), which does not trust these functions.

CREATE TABLE audit (
    seq        bigint      NOT NULL,
    at         timestamptz NOT NULL,
    id         uuid        NOT NULL,
    phase      text        NOT NULL,
    actor      text        NOT NULL,
    action     text        NOT NULL,
    tenant_uid uuid,
    tenant     text,
    outcome    text,
    detail     jsonb       NOT NULL,
    prev       bytea       NOT NULL,
    hash       bytea       NOT NULL,
    PRIMARY KEY (seq, at),
    CONSTRAINT audit_seq_is_counted CHECK (seq >= 1),
    CONSTRAINT audit_phase_is_known CHECK (phase IN ('started', 'finished', 'refused')),
    CONSTRAINT audit_actor_is_named CHECK (octet_length(actor) BETWEEN 1 AND 512),
    CONSTRAINT audit_action_is_a_word CHECK (action ~ '^[a-z]+(-[a-z]+)*$' AND octet_length(action) <= 64),
    CONSTRAINT audit_tenant_is_whole CHECK ((tenant_uid IS NULL) = (tenant IS NULL)),
    CONSTRAINT audit_tenant_is_short CHECK (octet_length(tenant) <= 253),
    CONSTRAINT audit_outcome_is_short CHECK (octet_length(outcome) <= 1024),
    CONSTRAINT audit_detail_is_small CHECK (jsonb_typeof(detail) = 'object' AND octet_length(detail::text) <= 16384),
    CONSTRAINT audit_hashes_are_sha256 CHECK (octet_length(prev) = 32 AND octet_length(hash) = 32)
) PARTITION BY RANGE (at);

CREATE INDEX audit_by_tenant ON audit (tenant_uid, seq);

COMMENT ON TABLE audit IS
    'Source of truth for who did what. Append-only, hash-chained, one partition a month, kept for a year.';

-- The end of the chain. Its one row is also what writers queue for.
CREATE TABLE audit_head (
    one  boolean     PRIMARY KEY DEFAULT true,
    seq  bigint      NOT NULL,
    at   timestamptz NOT NULL,
    hash bytea       NOT NULL,
    CONSTRAINT audit_head_is_one_row CHECK (one)
) WITH (fillfactor = 10);

COMMENT ON TABLE audit_head IS
    'Source of truth for where the audit ends, so that rows missing at its end are noticed. Kept by audit_append.';

CREATE TABLE audit_anchors (
    seq        bigint      PRIMARY KEY,
    hash       bytea       NOT NULL,
    month      date        NOT NULL UNIQUE,
    rows       bigint      NOT NULL,
    dropped_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE audit_anchors IS
    'Source of truth for what the audit chained to before its oldest months were dropped: last row of each of them.';

INSERT INTO audit_head (seq, at, hash) VALUES (0, 'epoch', decode(repeat('00', 32), 'hex'));

-- ─── The chain ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- One field of what is hashed: 0 for an absent one, else 1, its length in bytes (32 bits, big-endian) and the bytes.
CREATE FUNCTION audit_field(value bytea) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN value IS NULL THEN '\x00'::bytea ELSE '\x01'::bytea || int4send(octet_length(value)) || value END
$$;

-- SHA-256 over a prefix and all fields of a row but the hash itself, in the order of the table's columns. `seq` is 64
-- bits big-endian, `at` microseconds since 1970 likewise, `detail` the text that PostgreSQL gives a jsonb.
CREATE FUNCTION audit_hash(entry audit) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT sha256(
        convert_to('granary.dev/audit/v1', 'UTF8')
        || audit_field(int8send(entry.seq))
        || audit_field(int8send((extract(epoch FROM entry.at) * 1000000)::bigint))
        || audit_field(uuid_send(entry.id))
        || audit_field(convert_to(entry.phase, 'UTF8'))
        || audit_field(convert_to(entry.actor, 'UTF8'))
        || audit_field(convert_to(entry.action, 'UTF8'))
        || audit_field(uuid_send(entry.tenant_uid))
        || audit_field(convert_to(entry.tenant, 'UTF8'))
        || audit_field(convert_to(entry.outcome, 'UTF8'))
        || audit_field(convert_to(entry.detail::text, 'UTF8'))
        || audit_field(entry.prev)
    )
$$;

-- The partition of a month. Nobody reaches it but through `audit`.
CREATE FUNCTION audit_make_partition(month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    partition CONSTANT text := 'audit_' || to_char(month, 'YYYY_MM');
BEGIN
    IF to_regclass('public.' || partition) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Made apart and then attached, which does not stop readers and writers of the others.
    EXECUTE format('CREATE TABLE %I (LIKE audit INCLUDING ALL)', partition);
    EXECUTE format('REVOKE ALL ON %I FROM app', partition);
    EXECUTE format('CREATE TRIGGER keep_rows BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', partition);
    EXECUTE format('COMMENT ON TABLE %I IS %L', partition, 'A month of audit.');
    EXECUTE format('ALTER TABLE audit ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition,
        month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month')::timestamp AT TIME ZONE 'UTC');
END $$;

-- Appends a row at a given time, or at that of the row before it if that is later: time never runs backwards along
-- the chain, so that a month is always one piece of it.
CREATE FUNCTION audit_append_at(
    moment timestamptz, id uuid, phase text, actor text, action text, tenant_uid uuid, tenant text, outcome text,
    detail jsonb
) RETURNS audit LANGUAGE plpgsql AS $$
DECLARE
    head  audit_head;
    entry audit;
BEGIN
    -- Whoever comes next waits here until this transaction ends.
    SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
    entry.seq := head.seq + 1;
    entry.at := greatest(coalesce(moment, clock_timestamp()), head.at);
    entry.id := id;
    entry.phase := phase;
    entry.actor := actor;
    entry.action := action;
    entry.tenant_uid := tenant_uid;
    entry.tenant := tenant;
    entry.outcome := outcome;
    entry.detail := detail;
    entry.prev := head.hash;
    entry.hash := audit_hash(entry);
    PERFORM audit_make_partition(date_trunc('month', entry.at AT TIME ZONE 'UTC')::date);
    INSERT INTO audit SELECT entry.*;
    UPDATE audit_head SET seq = entry.seq, at = entry.at, hash = entry.hash;
    RETURN entry;
END $$;

-- The only way into the audit.
CREATE FUNCTION audit_append(
    id uuid, phase text, actor text, action text, tenant_uid uuid, tenant text, outcome text, detail jsonb
) RETURNS audit LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT audit_append_at(NULL, id, phase, actor, action, tenant_uid, tenant, outcome, detail)
$$;

-- ─── Months ─────────────────────────────────────────────────────────────────────────────────────────────────────────

-- Makes the partitions of this month and the next three. Appending makes a missing one too: this is for the work to be
-- done at a quiet time.
CREATE FUNCTION audit_prepare_months() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
BEGIN
    PERFORM FROM audit_head FOR UPDATE;
    FOR ahead IN 0..3 LOOP
        PERFORM audit_make_partition((date_trunc('month', now() AT TIME ZONE 'UTC') + ahead * interval '1 month')::date);
    END LOOP;
END $$;

-- Drops the months that ended more than a year ago, oldest first. Each leaves its last row's hash as an anchor, and a
-- row of audit that says so. The year is written here: no caller can make it shorter.
CREATE FUNCTION audit_expire_months(actor text) RETURNS SETOF audit_anchors
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    partition text;
    anchor    audit_anchors;
BEGIN
    PERFORM FROM audit_head FOR UPDATE;
    FOR partition IN
        SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'audit'::regclass ORDER BY relname
    LOOP
        anchor.month := to_date(substr(partition, 7), 'YYYY_MM');
        EXIT WHEN (anchor.month + interval '1 month')::timestamp AT TIME ZONE 'UTC' > now() - interval '1 year';
        EXECUTE format('SELECT seq, hash, count(*) OVER () FROM %I ORDER BY seq DESC LIMIT 1', partition)
            INTO anchor.seq, anchor.hash, anchor.rows;
        EXECUTE format('DROP TABLE %I', partition);
        CONTINUE WHEN anchor.seq IS NULL;
        anchor.dropped_at := now();
        INSERT INTO audit_anchors SELECT anchor.*;
        PERFORM audit_append_at(NULL, gen_random_uuid(), 'finished', actor, 'audit-expired', NULL, NULL, 'dropped',
            jsonb_build_object('month', to_char(anchor.month, 'YYYY-MM'), 'rows', anchor.rows, 'seq', anchor.seq,
                'hash', encode(anchor.hash, 'hex')));
        RETURN NEXT anchor;
    END LOOP;
END $$;

-- ─── What nobody may do ─────────────────────────────────────────────────────────────────────────────────────────────

CREATE FUNCTION guard_audit_head() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.seq <> old.seq + 1 OR new.at < old.at THEN
        RAISE EXCEPTION 'the head of the audit only moves on, one row at a time: % does not follow %', new.seq, old.seq
            USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'audit_head_moves_on';
    END IF;
    RETURN new;
END $$;

-- A row trigger, because that is the kind that also guards each partition.
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER keep_rows BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER guard BEFORE UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION guard_audit_head();
CREATE TRIGGER keep_rows BEFORE DELETE OR TRUNCATE ON audit_head FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER guard BEFORE UPDATE ON audit_anchors FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER keep_rows BEFORE DELETE OR TRUNCATE ON audit_anchors FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

SELECT audit_prepare_months();

-- ─── What `app` and `auditor` may do ────────────────────────────────────────────────────────────────────────────────

REVOKE ALL ON audit, audit_head, audit_anchors FROM app;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC, app;

GRANT SELECT ON audit, audit_head, audit_anchors TO app;
GRANT EXECUTE ON FUNCTION audit_append(uuid, text, text, text, uuid, text, text, jsonb) TO app;
GRANT EXECUTE ON FUNCTION audit_prepare_months(), audit_expire_months(text) TO app;

GRANT USAGE ON SCHEMA public TO auditor;
GRANT SELECT ON audit, audit_head, audit_anchors TO auditor;
