-- What outlives a tenant's custom resource: identity, keys, operations, evidence. The audit is V2.
--
-- Runs as `owner`. `app` is the role of the running programs; every right that it has is granted here, on top of none.
-- Rows of these tables are never deleted, by nobody: there is no statement for it, no right to it, and a trigger
-- against it. Rules that must hold whatever program writes are constraints and triggers, not code.

-- ─── Tenants ────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE tenants (
    uid        uuid        PRIMARY KEY,
    name       text        NOT NULL,
    namespace  text        NOT NULL,
    state      text        NOT NULL DEFAULT 'live',
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    CONSTRAINT tenants_name_is_a_label CHECK (name ~ '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'),
    CONSTRAINT tenants_namespace_is_a_label CHECK (namespace ~ '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'),
    CONSTRAINT tenants_state_is_known CHECK (state IN ('live', 'offboarding', 'tombstone')),
    CONSTRAINT tenants_end_with_a_tombstone CHECK ((state = 'tombstone') = (ended_at IS NOT NULL))
);

-- A name is free again once its tenant is a tombstone; a UID never is: its row stays.
CREATE UNIQUE INDEX tenants_live_name ON tenants (name) WHERE state <> 'tombstone';
CREATE UNIQUE INDEX tenants_live_namespace ON tenants (namespace) WHERE state <> 'tombstone';

COMMENT ON TABLE tenants IS
    'Source of truth for which tenant UIDs exist or ever existed, and for tombstones. Name and namespace of a live '
    'tenant are copies: their source is the Tenant resource.';

-- ─── Keys ───────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE keys (
    tenant_uid  uuid        PRIMARY KEY REFERENCES tenants (uid),
    provider    text        NOT NULL,
    key_id      text,
    state       text        NOT NULL DEFAULT 'intended',
    key_version integer     NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    rotated_at  timestamptz,
    deletion_at timestamptz,
    CONSTRAINT keys_state_is_known
        CHECK (state IN ('intended', 'enabled', 'disabled', 'pending-deletion', 'destroyed')),
    CONSTRAINT keys_version_is_counted CHECK (key_version >= 0),
    -- A key that was never made can still be given up.
    CONSTRAINT keys_have_an_id CHECK (key_id IS NOT NULL OR state IN ('intended', 'destroyed')),
    CONSTRAINT keys_deletion_has_a_time CHECK (state <> 'pending-deletion' OR deletion_at IS NOT NULL)
);

-- No two tenants share a key.
CREATE UNIQUE INDEX keys_id ON keys (provider, key_id);

COMMENT ON TABLE keys IS
    'Source of truth for which KMS key belongs to which tenant, and for the intent to have one, which is written '
    'before the KMS is asked. Whether the key works is for the KMS to say: state is what was last asked of it.';

-- ─── Data keys ──────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE data_keys (
    tenant_uid uuid        NOT NULL REFERENCES keys (tenant_uid),
    purpose    text        NOT NULL,
    version    integer     NOT NULL,
    wrapped    bytea       NOT NULL,
    state      text        NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    PRIMARY KEY (tenant_uid, purpose, version),
    CONSTRAINT data_keys_purpose_is_known CHECK (purpose IN ('app', 'backup')),
    CONSTRAINT data_keys_version_is_counted CHECK (version >= 1),
    CONSTRAINT data_keys_wrapped_is_small CHECK (octet_length(wrapped) BETWEEN 1 AND 16384),
    CONSTRAINT data_keys_state_is_known CHECK (state IN ('active', 'retiring', 'retired')),
    CONSTRAINT data_keys_retired_has_a_time CHECK ((state = 'retired') = (retired_at IS NOT NULL))
);

-- One version writes; the others are only read.
CREATE UNIQUE INDEX data_keys_one_active ON data_keys (tenant_uid, purpose) WHERE state = 'active';

COMMENT ON TABLE data_keys IS
    'Source of truth for the data keys of each tenant, wrapped by its key: the only copy there is. Never in the clear.';

-- ─── Operations ─────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE operations (
    id          uuid        PRIMARY KEY,
    tenant_uid  uuid        NOT NULL REFERENCES tenants (uid),
    kind        text        NOT NULL,
    step        text        NOT NULL,
    state       text        NOT NULL DEFAULT 'running',
    detail      jsonb       NOT NULL DEFAULT '{}',
    started_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT operations_kind_is_a_word CHECK (kind ~ '^[a-z]+(-[a-z]+)*$'),
    CONSTRAINT operations_step_is_named CHECK (step <> ''),
    CONSTRAINT operations_state_is_known CHECK (state IN ('running', 'done', 'failed')),
    CONSTRAINT operations_detail_is_small CHECK (jsonb_typeof(detail) = 'object' AND octet_length(detail::text) <= 65536),
    CONSTRAINT operations_end_has_a_time CHECK ((state = 'running') = (finished_at IS NULL))
);

-- What was interrupted is found again and goes on, instead of being begun a second time.
CREATE UNIQUE INDEX operations_one_running ON operations (tenant_uid, kind) WHERE state = 'running';
CREATE INDEX operations_by_tenant ON operations (tenant_uid, started_at);

COMMENT ON TABLE operations IS
    'Source of truth for how far a change that takes several steps has come (onboarding, rotation, offboarding), so '
    'that it goes on there after an interruption.';

-- ─── Evidence ───────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE evidence (
    tenant_uid uuid        PRIMARY KEY REFERENCES tenants (uid),
    envelope   jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT evidence_is_an_object CHECK (jsonb_typeof(envelope) = 'object')
);

COMMENT ON TABLE evidence IS
    'Source of truth for the signed record of each offboarding. Written once, with the tombstone.';

-- ─── What no program may do ─────────────────────────────────────────────────────────────────────────────────────────

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of table % is refused: its rows are kept as they are', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_TABLE_NAME || '_rows_are_kept';
END $$;

CREATE FUNCTION guard_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF old.state = 'tombstone' THEN
        RAISE EXCEPTION 'tenant % is a tombstone, which stays as it is for ever', old.uid
            USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'tenants_tombstone_is_final';
    END IF;
    IF (new.uid, new.name, new.namespace, new.created_at)
        IS DISTINCT FROM (old.uid, old.name, old.namespace, old.created_at) THEN
        RAISE EXCEPTION 'the identity of tenant % cannot be changed', old.uid
            USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'tenants_identity_is_final';
    END IF;
    RETURN new;
END $$;

CREATE FUNCTION guard_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF old.state = 'destroyed' AND new.state <> 'destroyed' THEN
        RAISE EXCEPTION 'the key of tenant % is destroyed and cannot come back', old.tenant_uid
            USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'keys_destroyed_is_final';
    END IF;
    IF new.tenant_uid <> old.tenant_uid OR new.provider <> old.provider OR new.created_at <> old.created_at
        OR (old.key_id IS NOT NULL AND new.key_id IS DISTINCT FROM old.key_id) THEN
        RAISE EXCEPTION 'the key of tenant % cannot become another key', old.tenant_uid
            USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'keys_identity_is_final';
    END IF;
    RETURN new;
END $$;

CREATE FUNCTION guard_data_key() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    life CONSTANT text[] := ARRAY['active', 'retiring', 'retired'];
BEGIN
    IF (new.tenant_uid, new.purpose, new.version, new.created_at)
        IS DISTINCT FROM (old.tenant_uid, old.purpose, old.version, old.created_at) THEN
        RAISE EXCEPTION 'data key % % of tenant % cannot become another one', old.purpose, old.version, old.tenant_uid
            USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'data_keys_identity_is_final';
    END IF;
    IF array_position(life, new.state) < array_position(life, old.state) THEN
        RAISE EXCEPTION 'data key % % of tenant % is % and cannot become % again',
            old.purpose, old.version, old.tenant_uid, old.state, new.state
            USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'data_keys_only_grow_old';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER guard BEFORE UPDATE ON tenants FOR EACH ROW EXECUTE FUNCTION guard_tenant();
CREATE TRIGGER guard BEFORE UPDATE ON keys FOR EACH ROW EXECUTE FUNCTION guard_key();
CREATE TRIGGER guard BEFORE UPDATE ON data_keys FOR EACH ROW EXECUTE FUNCTION guard_data_key();
CREATE TRIGGER guard BEFORE UPDATE ON evidence FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER keep_rows BEFORE DELETE OR TRUNCATE ON tenants FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER keep_rows BEFORE DELETE OR TRUNCATE ON keys FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER keep_rows BEFORE DELETE OR TRUNCATE ON data_keys FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER keep_rows BEFORE DELETE OR TRUNCATE ON operations FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER keep_rows BEFORE DELETE OR TRUNCATE ON evidence FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- ─── What `app` may do ──────────────────────────────────────────────────────────────────────────────────────────────

-- Also the list of migrations, which a new table's default rights would let it rewrite.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM app;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC, app;

COMMENT ON TABLE refinery_schema_history IS
    'Source of truth for which migrations were applied. Kept by refinery.';

GRANT USAGE ON SCHEMA public TO app;
GRANT SELECT ON refinery_schema_history, tenants, keys, data_keys, operations, evidence TO app;
GRANT INSERT ON tenants, keys, data_keys, operations, evidence TO app;
GRANT UPDATE (state, ended_at) ON tenants TO app;
GRANT UPDATE (key_id, state, key_version, rotated_at, deletion_at) ON keys TO app;
GRANT UPDATE (wrapped, state, retired_at) ON data_keys TO app;
GRANT UPDATE (step, state, detail, updated_at, finished_at) ON operations TO app;
