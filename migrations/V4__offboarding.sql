-- Offboarding: two records of each tenant, room for the proofs, and evidence for those who audit.

-- The first record is signed when nothing opens the tenant's data any more, the second when the KMS has destroyed its
-- key, which no KMS does in less than a week.
ALTER TABLE evidence
    ADD COLUMN stage text NOT NULL DEFAULT 'destroyed',
    ADD CONSTRAINT evidence_stage_is_known CHECK (stage IN ('shredded', 'destroyed')),
    DROP CONSTRAINT evidence_pkey,
    ADD PRIMARY KEY (tenant_uid, stage);

ALTER TABLE evidence ALTER COLUMN stage DROP DEFAULT;

COMMENT ON TABLE evidence IS
    'Source of truth for the signed records of each offboarding: one written with the tombstone, one when the key is '
    'destroyed. Each is written once.';

-- An offboarding notes every attempt on every data key, and a tenant that rotated for years has many.
ALTER TABLE operations
    DROP CONSTRAINT operations_detail_is_small,
    ADD CONSTRAINT operations_detail_is_small
        CHECK (jsonb_typeof(detail) = 'object' AND octet_length(detail::text) <= 1048576);

-- Which keys the KMS still has to destroy is asked for every hour.
CREATE INDEX keys_pending_deletion ON keys (deletion_at) WHERE state = 'pending-deletion';

-- Who may audit may read what is signed for outsiders anyway, and whose it is.
GRANT SELECT ON tenants, evidence TO auditor;
