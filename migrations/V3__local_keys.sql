-- Where the local provider, which is for evaluation, keeps the tenants' keys: sealed by a root key that is not here.

CREATE TABLE local_keys (
    tenant_uid uuid  PRIMARY KEY REFERENCES keys (tenant_uid),
    record     bytea NOT NULL,
    CONSTRAINT local_keys_record_is_small CHECK (octet_length(record) BETWEEN 1 AND 65536)
);

COMMENT ON TABLE local_keys IS
    'Source of truth for the keys of provider local, sealed by its root key. Empty with any other provider.';

-- A key that is destroyed leaves a record that says so.
CREATE TRIGGER keep_rows BEFORE DELETE OR TRUNCATE ON local_keys FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

REVOKE ALL ON local_keys FROM app;
GRANT SELECT, INSERT ON local_keys TO app;
GRANT UPDATE (record) ON local_keys TO app;
